//! Session records that several nodes share: a session is on one node at a time.

use std::time::Duration;

use bayeux::{ClientId, Offset};
use halley::log::{self, Holder, LogError, NodeId, Opened, Revoked, SessionRecord, Settings};
use halley_tests::Nats;

use crate::it::{It, every_shared_kind, settings};
use crate::sessions::{at, record, revocation};

fn other(it: &It) -> Opened {
    it.try_open().expect("another node opens the log")
}

fn me(node: &Opened) -> &NodeId {
    node.nodes.me().expect("a node has a name")
}

fn id(name: &str) -> ClientId {
    ClientId::new(name)
}

/// Adopts from a node that has adopted it so often, if it was anybody's before.
async fn adopt_since(node: &Opened, name: &str, from: Option<&NodeId>, fence: u64) -> Option<SessionRecord> {
    let node_of = from.cloned();
    let from = Holder { node: node_of, fence };
    let adopted = node.sessions.adopt(&id(name), from).await;
    adopted.expect("the store can be read")
}

/// Adopts from a node that the session began on.
async fn adopt(node: &Opened, name: &str, from: &NodeId) -> Option<SessionRecord> {
    adopt_since(node, name, Some(from), 0).await
}

/// A record on one node, taken by another.
async fn taken(it: &It, by: &Opened, name: &str) {
    it.put(name, 5, 10).await;
    let from = it.nodes().me().expect("a node has a name");
    assert!(adopt(by, name, from).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_adopts_a_session_has_it_as_it_was() {
    for it in every_shared_kind() {
        let other = other(&it);
        it.put("abc", 5, 10).await;
        it.checkpoint("abc", 9, 11).await;
        let from = it.nodes().me().expect("a node has a name");
        let mut expected = record(&it, "abc", 9, at(11));
        (expected.node, expected.fence) = (Some(me(&other).clone()), 1);
        assert_eq!(adopt(&other, "abc", from).await, Some(expected.clone()));
        assert_eq!(it.get("abc").await, Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_lost_a_session_cannot_write_it() {
    for it in every_shared_kind() {
        let other = other(&it);
        for name in ["put", "checkpoint", "remove"] {
            taken(&it, &other, name).await;
        }
        let store = it.sessions();
        let put = store.put(record(&it, "put", 99, at(99))).await;
        let checkpoint = store.checkpoint(&id("checkpoint"), Offset(99), at(99)).await;
        let remove = store.remove(&id("remove")).await;
        for result in [put, checkpoint, remove] {
            assert!(matches!(result, Err(LogError::Taken)), "{result:?}");
        }
        for name in ["put", "checkpoint", "remove"] {
            let there = it.get(name).await.expect("it is there");
            assert_eq!((there.state.cursor, there.seen), (Offset(5), at(10)), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_lost_a_session_hears_it_once() {
    for it in every_shared_kind() {
        let other = other(&it);
        let mut lost = it.sessions().lost();
        taken(&it, &other, "abc").await;
        assert!(lost.try_recv().is_err(), "it has not looked yet");
        for _ in 0..2 {
            let result = it.sessions().checkpoint(&id("abc"), Offset(99), at(99)).await;
            assert!(matches!(result, Err(LogError::Taken)), "{result:?}");
        }
        assert_eq!(lost.try_recv(), Ok(id("abc")));
        assert!(lost.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_adopted_is_written_by_its_new_node() {
    for it in every_shared_kind() {
        let other = other(&it);
        taken(&it, &other, "abc").await;
        other
            .sessions
            .checkpoint(&id("abc"), Offset(12), at(12))
            .await
            .unwrap();
        assert_eq!(it.get("abc").await.unwrap().state.cursor, Offset(12));
        other.sessions.remove(&id("abc")).await.unwrap();
        assert_eq!(it.get("abc").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_came_back_is_written_again() {
    for it in every_shared_kind() {
        let other = other(&it);
        taken(&it, &other, "abc").await;
        let holder = it.get("abc").await.unwrap().holder();
        assert!(it.sessions().adopt(&id("abc"), holder).await.unwrap().is_some());
        it.checkpoint("abc", 12, 12).await;
        assert_eq!(it.get("abc").await.unwrap().state.cursor, Offset(12));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_adopted_from_a_node_that_does_not_have_it() {
    for it in every_shared_kind() {
        let other = other(&it);
        it.put("abc", 5, 10).await;
        assert_eq!(adopt(&other, "abc", &NodeId("third".into())).await, None);
        assert_eq!(adopt_since(&other, "abc", None, 0).await, None);
        assert_eq!(adopt(&other, "def", me(&other)).await, None);
        it.checkpoint("abc", 9, 11).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_adopted_from_a_node_that_has_adopted_it_again() {
    for it in every_shared_kind() {
        let other = other(&it);
        it.put("abc", 5, 10).await;
        let asked = it.get("abc").await.unwrap().holder();
        assert!(
            it.sessions()
                .adopt(&id("abc"), asked.clone())
                .await
                .unwrap()
                .is_some()
        );
        assert_eq!(other.sessions.adopt(&id("abc"), asked).await.unwrap(), None);
        it.checkpoint("abc", 9, 11).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_given_up_is_found_by_its_own_node() {
    for it in every_shared_kind() {
        it.put("abc", 5, 10).await;
        it.sessions().release(&id("abc"));
        let holder = it.get("abc").await.unwrap().holder();
        let found = it.sessions().adopt(&id("abc"), holder).await.unwrap();
        let mut expected = record(&it, "abc", 5, at(10));
        expected.fence = 1;
        assert_eq!(found, Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_adopt_at_once_one_has_the_session() {
    for it in every_shared_kind() {
        let (one, two) = (other(&it), other(&it));
        let from = it.nodes().me().expect("a node has a name");
        for n in 0..200 {
            let name = format!("s{n}");
            it.put(&name, 5, 10).await;
            let (first, second) = tokio::join!(adopt(&one, &name, from), adopt(&two, &name, from));
            assert_eq!(
                usize::from(first.is_some()) + usize::from(second.is_some()),
                1,
                "{n}"
            );
            let winner = if first.is_some() { me(&one) } else { me(&two) };
            assert_eq!(it.get(&name).await.unwrap().node.as_ref(), Some(winner));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_written_the_other_reads_at_once() {
    for it in every_shared_kind() {
        let other = other(&it);
        for n in 0..100 {
            it.put("abc", n, n).await;
            let read = other.sessions.get(&id("abc")).await.unwrap().unwrap();
            assert_eq!(read.state.cursor, Offset(n));
        }
        let found = other.sessions.find(Box::new(|_| true)).await.unwrap();
        assert_eq!(found, [id("abc")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_revokes_is_revoked_for_all() {
    for it in every_shared_kind() {
        let other = other(&it);
        let what = Revoked::Token("t1".into());
        it.sessions().revoke(revocation(what.clone(), 9)).await.unwrap();
        let known = other.sessions.revocations().await.unwrap();
        assert_eq!(known, [revocation(what.clone(), 9)]);
        other.sessions.pardon(&what).await.unwrap();
        assert_eq!(it.sessions().revocations().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_have_one_secret() {
    for it in every_shared_kind() {
        assert_eq!(other(&it).sessions.secret(), it.sessions().secret());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_sweeps_for_all() {
    for it in every_shared_kind() {
        let other = other(&it);
        it.put("abc", 5, 10).await;
        assert_eq!(it.sessions().sweep(at(1)).await.unwrap(), 0);
        assert_eq!(other.sessions.sweep(at(100)).await.unwrap(), 0, "not its turn");
        assert_eq!(it.sessions().sweep(at(100)).await.unwrap(), 1);
    }
}

/// A node on a server of the test's own.
fn alone(server: &Nats) -> Opened {
    let mut settings: Settings = settings();
    settings.shared.replicas = 1;
    settings.shared.answer_within = Duration::from_millis(500);
    log::open(&server.url(), &settings).expect("the log opens")
}

fn of(node: &Opened, cursor: u64) -> SessionRecord {
    let it = every_shared_kind().next().expect("there is one");
    let mut record = record(&it, "abc", cursor, at(cursor));
    record.node = Some(me(node).clone());
    record.epoch = node.log.epoch().clone();
    record
}

/// Writes until the servers are there again.
async fn written(node: &Opened, record: SessionRecord) {
    let writing = async {
        while let Err(error) = node.sessions.put(record.clone()).await {
            let is_passing = matches!(error, LogError::Away(_) | LogError::Unanswered(_));
            assert!(is_passing, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, writing)
        .await
        .expect("within ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_a_kill_of_the_server_and_are_written_again_after_it() {
    let mut server = Nats::start();
    let node = alone(&server);
    node.sessions.put(of(&node, 5)).await.unwrap();
    server.kill();
    let result = node.sessions.checkpoint(&id("abc"), Offset(6), at(6)).await;
    let is_passing = matches!(result, Err(LogError::Away(_) | LogError::Unanswered(_)));
    assert!(is_passing, "{result:?}");
    server.restart();
    let other = alone(&server);
    assert_eq!(other.sessions.get(&id("abc")).await.unwrap(), Some(of(&node, 5)));
    written(&node, of(&node, 7)).await;
    assert_eq!(other.sessions.get(&id("abc")).await.unwrap(), Some(of(&node, 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_when_nobody_waits_any_more_is_this_nodes_own() {
    let server = Nats::start();
    let node = alone(&server);
    node.sessions.put(of(&node, 5)).await.unwrap();
    server.pause();
    let result = node.sessions.put(of(&node, 6)).await;
    assert!(matches!(result, Err(LogError::Unanswered(_))), "{result:?}");
    server.go_on();
    written(&node, of(&node, 7)).await;
    assert_eq!(node.sessions.get(&id("abc")).await.unwrap(), Some(of(&node, 7)));
}
