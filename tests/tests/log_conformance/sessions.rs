//! Session records beside the log.

use std::time::{Duration, SystemTime};

use bayeux::{ChannelPattern, ClientId, Offset, Snapshot, Subscription};
use halley::event::{Tenant, Token, UserId};
use halley::log::{Revocation, Revoked, SessionRecord};

use crate::it::{It, every_durable_kind, every_kind, everyone};

pub(crate) fn record(it: &It, id: &str, cursor: u64, seen: SystemTime) -> SessionRecord {
    let pattern = ChannelPattern::parse("/v2/**").expect("a pattern");
    SessionRecord {
        client_id: ClientId::new(id),
        user: Some("15000".into()),
        roles: ["supervisor".into()].into(),
        tenant: Tenant("acme".into()),
        token: Some(
            Token {
                id: Some("t1".into()),
                issued: Some(1),
                until: Some(2),
            }
            .into(),
        ),
        browser: None,
        epoch: it.log().epoch().clone(),
        state: Snapshot {
            subscriptions: vec![Subscription::new(pattern, Offset(3))],
            cursor: Offset(cursor),
            extensions: vec!["ack".into()],
            replays: 2,
            fresh: false,
            reply: None,
            ..Snapshot::default()
        },
        seen,
        node: it.nodes().me().cloned(),
        fence: 0,
    }
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

impl It {
    pub(crate) async fn get(&self, id: &str) -> Option<SessionRecord> {
        self.sessions()
            .get(&ClientId::new(id))
            .await
            .expect("the store can be read")
    }

    pub(crate) async fn put(&self, id: &str, cursor: u64, seconds: u64) {
        self.sessions()
            .put(record(self, id, cursor, at(seconds)))
            .await
            .expect("stored");
    }

    pub(crate) async fn checkpoint(&self, id: &str, cursor: u64, seconds: u64) {
        self.sessions()
            .checkpoint(&ClientId::new(id), Offset(cursor), at(seconds))
            .await
            .expect("stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_read_as_it_was_put() {
    for it in every_kind() {
        let record = record(&it, "abc", 5, SystemTime::now());
        it.sessions().put(record.clone()).await.unwrap();
        assert_eq!(it.get("abc").await, Some(record));
        assert_eq!(it.get("ab").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_seen_by_the_next_get() {
    for it in every_kind() {
        let store = it.sessions();
        for n in 0..50 {
            // Nobody waits for the writes: the get that is called after them sees them all the same.
            let writes = [
                store.put(record(&it, "abc", n, at(n))),
                store.checkpoint(&ClientId::new("abc"), Offset(n + 1), at(n + 1)),
            ];
            let read = it.get("abc").await.unwrap();
            assert_eq!((read.state.cursor, read.seen), (Offset(n + 1), at(n + 1)));
            let remove = store.remove(&ClientId::new("abc"));
            assert_eq!(it.get("abc").await, None);
            drop((writes, remove));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_moves_the_cursor_and_nothing_else() {
    for it in every_kind() {
        it.put("abc", 5, 10).await;
        it.checkpoint("abc", 9, 20).await;
        let mut expected = record(&it, "abc", 9, at(20));
        expected.seen = at(20);
        assert_eq!(it.get("abc").await, Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_never_moves_back() {
    for it in every_kind() {
        it.put("abc", 5, 10).await;
        it.checkpoint("abc", 9, 11).await;
        it.checkpoint("abc", 7, 12).await;
        let read = it.get("abc").await.unwrap();
        assert_eq!((read.state.cursor, read.seen), (Offset(9), at(12)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_without_a_record_does_nothing() {
    for it in every_kind() {
        it.checkpoint("abc", 9, 11).await;
        assert_eq!((it.get("abc").await, it.sessions().count()), (None, 0));
        it.put("abc", 5, 10).await;
        it.sessions().remove(&ClientId::new("abc")).await.unwrap();
        it.checkpoint("abc", 9, 11).await;
        assert_eq!((it.get("abc").await, it.sessions().count()), (None, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_put_again_begins_anew() {
    for it in every_kind() {
        it.put("abc", 5, 10).await;
        it.checkpoint("abc", 9, 11).await;
        it.put("abc", 2, 12).await;
        assert_eq!(it.get("abc").await, Some(record(&it, "abc", 2, at(12))));
        assert_eq!(it.sessions().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_a_restart_with_their_newest_cursor() {
    for mut it in every_durable_kind() {
        it.put("abc", 5, 10).await;
        it.put("def", 6, 10).await;
        it.put("ghi", 7, 10).await;
        it.checkpoint("abc", 8, 11).await;
        it.sessions().remove(&ClientId::new("def")).await.unwrap();
        let expected = record(&it, "abc", 8, at(11));
        it.restart();
        assert_eq!(it.get("abc").await, Some(expected));
        assert_eq!(it.get("def").await, None);
        assert_eq!(it.sessions().count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_forgets_who_was_not_seen_since() {
    for it in every_kind() {
        for n in 0..700 {
            drop(it.sessions().put(record(&it, &format!("s{n}"), 1, at(n))));
        }
        it.checkpoint("s3", 1, 1000).await;
        assert_eq!(it.sessions().sweep(at(600)).await.unwrap(), 599);
        assert_eq!(it.sessions().count(), 101);
        assert_eq!(it.get("s599").await, None);
        assert!(it.get("s600").await.is_some() && it.get("s3").await.is_some());
        assert_eq!(it.sessions().sweep(at(600)).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_by_what_they_say_as_soon_as_they_are_put() {
    for it in every_kind() {
        let store = it.sessions();
        let mut others = record(&it, "def", 1, at(1));
        others.user = Some("15001".into());
        let mut nobodys = record(&it, "ghi", 1, at(1));
        nobodys.user = None;
        // Nobody waits for the writes.
        let writes = [
            store.put(record(&it, "abc", 1, at(1))),
            store.put(others),
            store.put(nobodys),
            store.put(record(&it, "jkl", 1, at(1))),
            store.remove(&ClientId::new("jkl")),
        ];
        let found =
            |user: &'static str| store.find(Box::new(move |record| record.user.as_deref() == Some(user)));
        assert_eq!(found("15000").await.unwrap(), [ClientId::new("abc")]);
        assert_eq!(found("15001").await.unwrap(), [ClientId::new("def")]);
        assert_eq!(found("15002").await.unwrap(), []);
        drop(writes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_keep_the_order_in_which_they_were_called() {
    for it in every_kind() {
        let store = it.sessions();
        let id = ClientId::new("abc");
        let writes = vec![
            store.checkpoint(&id, Offset(99), at(1)),
            store.put(record(&it, "abc", 1, at(1))),
            store.checkpoint(&id, Offset(50), at(2)),
            store.remove(&id),
            store.checkpoint(&id, Offset(70), at(3)),
            store.put(record(&it, "abc", 2, at(4))),
            store.checkpoint(&id, Offset(3), at(5)),
        ];
        for write in writes.into_iter().rev() {
            write.await.unwrap();
        }
        assert_eq!(it.get("abc").await, Some(record(&it, "abc", 3, at(5))));
        assert_eq!(store.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_stays_with_the_store() {
    for mut it in every_durable_kind() {
        let secret = it.sessions().secret();
        assert_eq!(secret.len(), 32);
        it.restart();
        assert_eq!(it.sessions().secret(), secret);
    }
    for (it, other) in every_kind().zip(every_kind()) {
        assert_ne!(it.sessions().secret(), other.sessions().secret());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_records_written_together_are_both_there() {
    for mut it in every_durable_kind() {
        let calls = (0..100).map(|n| {
            let put = it.sessions().put(record(&it, &format!("s{n}"), n, at(n)));
            (put, it.log().append(vec![everyone("/a", "1")]))
        });
        for (put, append) in calls.collect::<Vec<_>>() {
            put.await.unwrap();
            append.await.unwrap();
        }
        it.restart();
        assert_eq!((it.bounds(), it.sessions().count()), ((1, 100), 100));
    }
}

pub(crate) fn revocation(what: Revoked, until: u64) -> Revocation {
    Revocation { what, at: 7, until }
}

fn revoked() -> [Revoked; 4] {
    let user = |tenant: &str| Revoked::User {
        tenant: Tenant(tenant.into()),
        user: UserId("15000".into()),
    };
    [
        user(""),
        user("acme"),
        Revoked::Session("9f86d081884c7d65".into()),
        Revoked::Token("15000".into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_stays_so_until_it_is_taken_back() {
    for it in every_kind() {
        let store = it.sessions();
        for what in revoked() {
            store.revoke(revocation(what.clone(), 1)).await.unwrap();
            // Nobody waits: a later one takes the place of the first.
            drop(store.revoke(revocation(what, 2)));
        }
        let mut known = store.revocations().await.unwrap();
        known.sort_by_key(|one| revoked().iter().position(|what| *what == one.what));
        assert_eq!(known, revoked().map(|what| revocation(what, 2)));
        assert_eq!(store.count(), 0, "they are no sessions");
        let [first, rest @ ..] = revoked();
        store.pardon(&first).await.unwrap();
        store.pardon(&first).await.unwrap();
        let known = store.revocations().await.unwrap();
        assert_eq!(known.len(), rest.len());
        assert!(known.iter().all(|one| one.what != first));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_is_revoked_after_a_restart() {
    for mut it in every_durable_kind() {
        let [what, ..] = revoked();
        it.sessions().revoke(revocation(what.clone(), 9)).await.unwrap();
        it.restart();
        let known = it.sessions().revocations().await.unwrap();
        assert_eq!(known, [revocation(what, 9)]);
    }
}
