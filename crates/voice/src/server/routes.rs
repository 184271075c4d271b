//! Which address does what.
//!
//! | address below `/api/v2` | GET | POST |
//! |---|---|---|
//! | `/me` | the user, with `?subresources=devices,calls,features,channels` or `*` | session |
//! | `/me/channels/voice` | | agent state |
//! | `/me/devices` | the devices | |
//! | `/me/devices/{id}` | | supervisor monitoring |
//! | `/me/devices/{id}/calls` | | `Dial` |
//! | `/me/calls` | the calls | |
//! | `/me/calls/{id}` | one call | operations on the call |
//!
//! `me` is who the request authenticates as; another user's device or call is not found.

use hyper::body::Incoming;
use hyper::{Method, Request};
use serde_json::{Map, Value, json};

use super::App;
use super::answer::{Failure, HttpResponse, failure, success};
use super::body::read_json;
use crate::agent::{Agent, Role, device_id};
use crate::call::{Operation, Refusal, StatusCode};

/// Answers a request.
pub(super) async fn handle(app: &App, request: Request<Incoming>) -> HttpResponse {
    match answer(app, request).await {
        Ok(found) => success(found),
        Err(why) => failure(why),
    }
}

async fn answer(app: &App, request: Request<Incoming>) -> Result<Map<String, Value>, Failure> {
    let agent = app.authenticate(request.headers())?;
    let uri = request.uri().clone();
    let place = Place::of(uri.path()).ok_or_else(|| no_such_address(uri.path()))?;
    place.require_own_device(agent)?;
    match *request.method() {
        Method::GET if place.can_be_read() => app.read(agent, &place, uri.query().unwrap_or_default()),
        Method::POST if place.takes_operations() => {
            let body = read_json(request.into_body()).await?;
            app.perform(&agent.user, place.operation(&body)?)?;
            Ok(Map::new())
        }
        _ => Err(Failure::Method(place.methods())),
    }
}

/// An address of the API.
enum Place<'a> {
    Me,
    VoiceChannel,
    Devices,
    Device(&'a str),
    DeviceCalls(&'a str),
    Calls,
    Call(&'a str),
}

impl<'a> Place<'a> {
    /// Empty segments do not count: clients in the field write `/api/v2/me/?…`.
    fn of(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match *segments.strip_prefix(&["api", "v2", "me"])? {
            [] => Some(Place::Me),
            ["channels", "voice"] => Some(Place::VoiceChannel),
            ["devices"] => Some(Place::Devices),
            ["devices", id] => Some(Place::Device(id)),
            ["devices", id, "calls"] => Some(Place::DeviceCalls(id)),
            ["calls"] => Some(Place::Calls),
            ["calls", id] => Some(Place::Call(id)),
            _ => None,
        }
    }

    fn can_be_read(&self) -> bool {
        self.methods().contains("GET")
    }

    fn takes_operations(&self) -> bool {
        self.methods().contains("POST")
    }

    /// In the form of an `Allow` header.
    fn methods(&self) -> &'static str {
        match self {
            Place::Me | Place::Call(_) => "GET, POST",
            Place::Devices | Place::Calls => "GET",
            Place::VoiceChannel | Place::Device(_) | Place::DeviceCalls(_) => "POST",
        }
    }

    fn operation(&self, body: &Value) -> Result<Operation, Refusal> {
        match self {
            Place::Me => Operation::on_user(body),
            Place::VoiceChannel => Operation::on_voice_channel(body),
            Place::Device(_) => Operation::on_device(body),
            Place::DeviceCalls(_) => Operation::on_device_calls(body),
            Place::Call(id) => Operation::on_call(id, body),
            Place::Devices | Place::Calls => Err(Refusal::invalid("There is no operation on this address.")),
        }
    }

    fn require_own_device(&self, agent: &Agent) -> Result<(), Refusal> {
        match self {
            Place::Device(id) | Place::DeviceCalls(id) if *id != device_id(&agent.user) => Err(Refusal::new(
                StatusCode::NotFound,
                format!("Device '{id}' is not found."),
            )),
            Place::Me
            | Place::VoiceChannel
            | Place::Devices
            | Place::Device(_)
            | Place::DeviceCalls(_)
            | Place::Calls
            | Place::Call(_) => Ok(()),
        }
    }
}

impl App {
    fn read(&self, agent: &Agent, place: &Place<'_>, query: &str) -> Result<Map<String, Value>, Failure> {
        let found = match place {
            Place::Me => ("user", self.user(agent, query)),
            Place::Devices => ("devices", self.subresource(agent, "devices")),
            Place::Calls => ("calls", self.subresource(agent, "calls")),
            Place::Call(id) => {
                let call = self.desk.lock().switch.call_of(self.now(), &agent.user, id);
                ("call", json!(call.ok_or_else(|| Refusal::call_not_found(id))?))
            }
            Place::VoiceChannel | Place::Device(_) | Place::DeviceCalls(_) => {
                return Err(Failure::Method(place.methods()));
            }
        };
        Ok(Map::from_iter([(found.0.to_owned(), found.1)]))
    }

    fn user(&self, agent: &Agent, query: &str) -> Value {
        let mut user = json!({
            "id": agent.user,
            "userName": agent.user,
            "roles": roles(agent.role),
            "uri": format!("{}/me", self.api),
            "path": "/me",
        });
        for name in subresources(query) {
            user[name] = self.subresource(agent, name);
        }
        user
    }

    fn subresource(&self, agent: &Agent, name: &str) -> Value {
        let now = self.now();
        let desk = self.desk.lock();
        match name {
            "devices" => json!(Vec::from_iter(desk.switch.device_of(&agent.user))),
            "calls" => json!(desk.switch.calls_of(now, &agent.user)),
            "features" => json!(features(agent.role)),
            _ => json!([{"name": "voice", "path": "/channels/voice"}]),
        }
    }
}

/// The subresources that a query asks for; what is not known is passed over, as clients ask for more than voice.
fn subresources(query: &str) -> Vec<&'static str> {
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("subresources="))
        .unwrap_or_default();
    let asked = asked.replace("%2C", ",").replace("%2c", ",");
    let wanted = |name: &&str| asked == "*" || asked.split(',').any(|asked| asked == *name);
    ["devices", "calls", "features", "channels"]
        .into_iter()
        .filter(wanted)
        .collect()
}

fn roles(role: Role) -> &'static [&'static str] {
    match role {
        Role::Agent => &["ROLE_AGENT"],
        Role::Supervisor => &["ROLE_AGENT", "ROLE_SUPERVISOR"],
    }
}

fn features(role: Role) -> &'static [&'static str] {
    match role {
        Role::Agent => &["api-voice"],
        Role::Supervisor => &["api-voice", "api-supervisor-monitoring"],
    }
}

fn no_such_address(path: &str) -> Failure {
    Refusal::new(StatusCode::NotFound, format!("Resource '{path}' is not found.")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_asks_for_every_subresource() {
        assert_eq!(
            subresources("fields=*&subresources=*"),
            ["devices", "calls", "features", "channels"]
        );
    }

    #[test]
    fn an_unknown_subresource_is_passed_over() {
        assert_eq!(subresources("subresources=calls,chats"), ["calls"]);
    }

    #[test]
    fn a_slash_at_the_end_does_not_matter() {
        assert!(matches!(Place::of("/api/v2/me/"), Some(Place::Me)));
    }
}
