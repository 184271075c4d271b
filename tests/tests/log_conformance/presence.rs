//! Who is present: entries that are compared before they are written.

use std::sync::Arc;

use futures::future::join_all;
use halley::event::{Tenant, UserId, Whose};
use halley::log::{Attendance, NOBODY, PresenceStore, Present, Revision};

use crate::it::{It, every_durable_kind, every_kind, every_shared_kind};

fn whose(user: &str) -> Whose {
    of("", user)
}

fn of(tenant: &str, user: &str) -> Whose {
    Whose {
        tenant: Tenant(tenant.into()),
        user: UserId(user.into()),
    }
}

fn with(sessions: &[&str]) -> Attendance {
    Attendance {
        sessions: sessions.iter().map(|name| ((*name).into(), "a".into())).collect(),
        told: true,
        owed: true,
    }
}

impl It {
    async fn write(&self, whose: &Whose, entry: &Attendance, over: Revision) -> Option<Revision> {
        let written = self.presence().write(whose, entry, over).await;
        written.expect("the entry can be written")
    }

    async fn look(&self, whose: &Whose) -> Option<(Revision, Attendance)> {
        let found = self.presence().look(whose).await;
        found.expect("the entry can be read")
    }

    async fn strike(&self, whose: &Whose, over: Revision) -> bool {
        let removed = self.presence().remove(whose, over).await;
        removed.expect("the entry can be removed")
    }

    async fn everybody(&self) -> Vec<Present> {
        let mut all = self.presence().all().await.expect("entries can be read");
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

/// What users and tenants may be called.
const NAMES: [(&str, &str); 6] = [
    ("", "15000"),
    ("", "a.b.>"),
    ("", "*"),
    ("acme.de", "15000"),
    ("acme-de", "ü 1/2"),
    ("", "="),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read() {
    for it in every_kind() {
        assert_eq!(it.look(&whose("15000")).await, None);
        let entry = with(&["one", "two"]);
        let revision = it
            .write(&whose("15000"), &entry, NOBODY)
            .await
            .expect("the first");
        assert_eq!(it.look(&whose("15000")).await, Some((revision, entry)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_has_an_entry_of_his_own_whatever_he_is_called() {
    for it in every_kind() {
        let mut expected = Vec::new();
        for (tenant, user) in NAMES {
            let entry = with(&[user]);
            let revision = it.write(&of(tenant, user), &entry, NOBODY).await.expect("new");
            expected.push((of(tenant, user), revision, entry));
        }
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(it.everybody().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_read_what_is_there_does_not_write() {
    for it in every_kind() {
        let first = it
            .write(&whose("15000"), &with(&["one"]), NOBODY)
            .await
            .expect("the first");
        assert_eq!(it.write(&whose("15000"), &with(&["two"]), NOBODY).await, None);
        let second = it
            .write(&whose("15000"), &with(&["three"]), first)
            .await
            .expect("over the first");
        assert_eq!(it.write(&whose("15000"), &with(&["four"]), first).await, None);
        assert!(!it.strike(&whose("15000"), first).await);
        assert_eq!(it.look(&whose("15000")).await, Some((second, with(&["three"]))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_not_there_and_its_revision_does_not_come_again() {
    for it in every_kind() {
        let mut last = NOBODY;
        for _ in 0..3 {
            let revision = it
                .write(&whose("15000"), &with(&["one"]), NOBODY)
                .await
                .expect("there is none");
            assert!(revision > last, "{revision} after {last}");
            assert!(it.strike(&whose("15000"), revision).await);
            assert_eq!(it.look(&whose("15000")).await, None);
            assert!(it.everybody().await.is_empty());
            last = revision;
        }
        assert!(!it.strike(&whose("15000"), last).await);
        assert_eq!(it.write(&whose("15000"), &with(&["one"]), last).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_present_survives_a_restart_and_revisions_go_on() {
    for mut it in every_durable_kind() {
        let revision = it
            .write(&whose("15000"), &with(&["one"]), NOBODY)
            .await
            .expect("new");
        let gone = it
            .write(&whose("15001"), &with(&["two"]), NOBODY)
            .await
            .expect("new");
        assert!(it.strike(&whose("15001"), gone).await);
        it.restart();
        assert_eq!(it.everybody().await, [(whose("15000"), revision, with(&["one"]))]);
        let again = it
            .write(&whose("15001"), &with(&["two"]), NOBODY)
            .await
            .expect("new");
        assert!(again > gone, "{again} after {gone}");
        let next = it
            .write(&whose("15000"), &with(&[]), revision)
            .await
            .expect("there");
        assert!(next > revision, "{next} after {revision}");
    }
}

/// Adds a session to an entry, whoever else does the same meanwhile.
async fn add(store: &Arc<dyn PresenceStore>, name: String) {
    loop {
        let found = store.look(&whose("15000")).await.expect("a look");
        let (revision, mut entry) = found.unwrap_or_default();
        entry.sessions.insert(name.as_str().into(), "a".into());
        let written = store.write(&whose("15000"), &entry, revision).await;
        if written.expect("an answer").is_some() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_write_at_once_none_is_lost() {
    for it in every_kind() {
        let adding = (0..20).map(|number| {
            let store = Arc::clone(it.presence());
            tokio::spawn(async move { add(&store, number.to_string()).await })
        });
        for added in join_all(adding).await {
            added.expect("it is added");
        }
        let (_, entry) = it.look(&whose("15000")).await.expect("an entry");
        assert_eq!(entry.sessions.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_log_see_the_same_entries() {
    for it in every_shared_kind() {
        let other = it.try_open().expect("another node opens the log");
        let first = it
            .write(&whose("15000"), &with(&["one"]), NOBODY)
            .await
            .expect("new");
        let seen = other.presence.look(&whose("15000")).await.expect("a look");
        assert_eq!(seen, Some((first, with(&["one"]))));
        let second = other
            .presence
            .write(&whose("15000"), &with(&["two"]), first)
            .await;
        assert!(second.expect("an answer").is_some());
        assert_eq!(it.write(&whose("15000"), &with(&["three"]), first).await, None);
    }
}
