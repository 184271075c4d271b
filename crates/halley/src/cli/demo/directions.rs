//! What to try next.

use std::net::SocketAddr;

pub(super) fn text(public: SocketAddr, internal: SocketAddr, voice: SocketAddr) -> String {
    format!(
        r#"
It stays up until Ctrl-C. To go on:

  As agent 15000 in a browser, with the CometD client that you have (any version from 3 on):
      const cometd = new CometD();
      cometd.configure({{ url: "http://{public}/cometd" }});
      cometd.handshake({{ ext: {{ token: "secret-15000" }} }}, () =>
        cometd.subscribe("/v2/me/calls", message => console.log(message.data)));

  Or from the console of any page, without a library:
      const socket = new WebSocket("ws://{public}/cometd"), send = message => socket.send(JSON.stringify([message]));
      socket.onopen = () => send({{ channel: "/meta/handshake", ext: {{ token: "secret-15000" }} }});
      socket.onmessage = ({{ data }}) => JSON.parse(data).forEach(message => {{
        console.log(message);
        const clientId = message.clientId ?? socket.clientId; socket.clientId = clientId;
        if (message.channel === "/meta/handshake") send({{ channel: "/meta/subscribe", clientId, subscription: "/v2/me/*" }});
        if (message.channel !== "/meta/handshake" && message.channel.startsWith("/meta/")) send({{ channel: "/meta/connect", clientId }});
      }});

  Publish to that agent, and to nobody else:
      curl -i http://{internal}/api/v1/events \
        -d '{{"user":"15000","channel":"/v2/me/calls","data":{{"hello":"agent"}},"id":"try-1"}}'

  Make a call, as agent 15000:
      curl -u 15000:secret-15000 http://{voice}/api/v2/me/devices/{device}/calls \
        -d '{{"operationName":"Dial","destination":{{"phoneNumber":"15001"}}}}'

  See what the broker counts:
      curl http://{internal}/metrics
"#,
        device = voice::device_id("15000"),
    )
}
