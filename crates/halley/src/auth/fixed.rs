//! `static`: users with tokens in the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{AuthError, Authenticator, Credentials, Denial, Principal, Verdict};
use crate::config::Config;
use crate::event::UserId;

/// Tokens are kept, looked up and compared as digests, so that the time of a look-up says nothing about a token.
struct Fixed {
    principal_by_digest: HashMap<[u8; 32], Principal>,
}

pub(super) fn make(config: &Config) -> Result<Arc<dyn Authenticator>, AuthError> {
    let mut principal_by_digest = HashMap::new();
    if config.auth.users.is_empty() {
        return Err(AuthError::Users(
            "there are none, so nobody could ever connect".to_owned(),
        ));
    }
    for entry in &config.auth.users {
        if entry.token.is_empty() {
            return Err(AuthError::Users(format!(
                "the token of {:?} is empty",
                entry.user
            )));
        }
        let user = UserId::parse(&entry.user)
            .map_err(|reason| AuthError::Users(format!("{:?} cannot be: {reason}", entry.user)))?;
        let principal = Principal {
            user: Some(user),
            roles: entry.roles.iter().map(|role| role.as_str().into()).collect(),
            ..Principal::default()
        };
        if principal_by_digest
            .insert(digest(&entry.token), principal)
            .is_some()
        {
            return Err(AuthError::Users(format!(
                "{} has the token of another user",
                entry.user
            )));
        }
    }
    Ok(Arc::new(Fixed { principal_by_digest }))
}

impl Fixed {
    fn verdict(&self, credentials: &Credentials<'_>) -> Verdict {
        let (token, name) = match (&credentials.token, &credentials.basic) {
            (Some(token), _) => (token, None),
            (None, Some((name, password))) => (password, Some(name)),
            (None, None) => return Verdict::Unknown,
        };
        let Some(principal) = self.principal_by_digest.get(&digest(token)) else {
            return Verdict::Refused(Denial::Wrong);
        };
        let is_named = name.is_none_or(|name| {
            let user = principal.user.as_ref().map_or("", |user| &*user.0);
            name.as_bytes().ct_eq(user.as_bytes()).into()
        });
        if is_named {
            Verdict::Is(principal.clone())
        } else {
            Verdict::Refused(Denial::Wrong)
        }
    }
}

impl Authenticator for Fixed {
    fn judge(&self, credentials: &Credentials<'_>) -> BoxFuture<'static, Verdict> {
        Box::pin(ready(self.verdict(credentials)))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::config;

    fn with(users: Vec<config::User>) -> Config {
        let mut config = Config::default();
        config.auth.users = users;
        config
    }

    fn judge(header: &str) -> Verdict {
        let users = [("15000", "a"), ("15001", "b")];
        let users = users
            .map(|(user, token)| config::User {
                user: user.into(),
                token: token.into(),
                roles: Vec::new(),
            })
            .to_vec();
        let fixed = make(&with(users)).unwrap();
        fixed
            .judge(&Credentials::from_header(Some(header)))
            .now_or_never()
            .expect("judged at once")
    }

    fn is(user: &str) -> Verdict {
        Verdict::Is(Principal {
            user: Some(UserId(user.into())),
            ..Principal::default()
        })
    }

    #[test]
    fn a_token_names_its_user() {
        assert_eq!(judge("Bearer b"), is("15001"));
    }

    #[test]
    fn basic_needs_the_token_of_that_very_user() {
        assert_eq!(judge("Basic MTUwMDA6YQ=="), is("15000")); // 15000:a
        assert_eq!(judge("Basic MTUwMDA6Yg=="), Verdict::Refused(Denial::Wrong)); // 15000:b
    }

    #[test]
    fn a_wrong_token_is_refused_and_none_is_unknown() {
        assert_eq!(judge("Bearer c"), Verdict::Refused(Denial::Wrong));
        assert_eq!(judge("Digest x"), Verdict::Unknown);
    }

    #[test]
    fn a_user_whom_no_publisher_could_address_is_refused() {
        let users = vec![config::User {
            user: "15000\n".into(),
            token: "secret".into(),
            roles: Vec::new(),
        }];
        assert!(make(&with(users)).is_err());
    }

    #[test]
    fn two_users_cannot_share_a_token() {
        let users = ["1", "2"]
            .map(|user| config::User {
                user: user.into(),
                token: "same".into(),
                roles: Vec::new(),
            })
            .to_vec();
        assert!(make(&with(users)).is_err());
    }
}
