//! What nodes that share a log ask each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::ClientId;
use halley::log::{Answer, NodeId, Nodes, Opened, Question};

use crate::it::{It, every_shared_kind};

fn other(it: &It) -> Opened {
    it.try_open().expect("another node opens the log")
}

fn me(nodes: &Arc<dyn Nodes>) -> &NodeId {
    nodes.me().expect("a node has a name")
}

/// Answers everything with a number.
fn answering(nodes: &Arc<dyn Nodes>, with: usize) {
    let mut asked = nodes.listen();
    tokio::spawn(async move {
        while let Some(asked) = asked.recv().await {
            let _ = asked.answer.send(Answer::Ended(with));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_asked_and_answers() {
    for it in every_shared_kind() {
        let other = other(&it);
        let mut asked = other.nodes.listen();
        let question = Question::LetGo(ClientId::new("abc"));
        let answer = it.nodes().ask(me(&other.nodes), question.clone());
        let heard = asked.recv().await.expect("a question");
        assert_eq!((&heard.from, &heard.question), (me(it.nodes()), &question));
        heard.answer.send(Answer::Done).expect("somebody waits");
        assert_eq!(answer.await, Some(Answer::Done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_node_that_is_not_there_it_is_known_at_once() {
    for it in every_shared_kind() {
        let begun = Instant::now();
        let answer = it.nodes().ask(&NodeId("nobody".into()), Question::Counts).await;
        assert_eq!(answer, None);
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(400), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_not_waited_for() {
    for it in every_shared_kind() {
        let other = other(&it);
        let _asked = other.nodes.listen();
        let begun = Instant::now();
        assert_eq!(it.nodes().ask(me(&other.nodes), Question::Counts).await, None);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(500) && took < Duration::from_secs(2),
            "{took:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_that_are_there_are_asked_and_none_else() {
    for it in every_shared_kind() {
        assert_eq!(it.nodes().ask_all(Question::Counts).await, []);
        let (one, two) = (other(&it), other(&it));
        answering(&one.nodes, 1);
        let _silent = two.nodes.listen();
        let newest = other(&it);
        let mut answers = newest.nodes.ask_all(Question::Counts).await;
        answers.retain(|(node, _)| node != me(it.nodes()));
        answers.sort_by_key(|(_, answer)| answer.is_none());
        let expected = [
            (me(&one.nodes).clone(), Some(Answer::Ended(1))),
            (me(&two.nodes).clone(), None),
        ];
        assert_eq!(answers, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_said_goodbye_is_not_asked() {
    for it in every_shared_kind() {
        let other = other(&it);
        answering(&other.nodes, 1);
        let until = Instant::now() + Duration::from_secs(10);
        while it.nodes().ask_all(Question::Counts).await.is_empty() {
            assert!(Instant::now() < until, "the other is heard");
        }
        let begun = Instant::now();
        drop(other);
        while !it.nodes().ask_all(Question::Counts).await.is_empty() {
            assert!(
                begun.elapsed() < Duration::from_millis(1500),
                "it was heard to go"
            );
        }
    }
}
