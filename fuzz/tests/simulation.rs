//! The steps of the fuzz target `session`, drawn at random: every time the same ones, so that what is green stays green
//! (`PROPTEST_RNG_SEED` chooses others). A failure prints the steps that lead to it, cut down to what is needed.

use arbitrary::{Arbitrary, Unstructured};
use fuzz::session::{Claim, From, Plan, Step, World};
use proptest::prelude::*;

/// More bytes than any step is read from.
const BYTES: usize = 12;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = any::<[u8; BYTES]>()
        .prop_map(|bytes| Step::arbitrary(&mut Unstructured::new(&bytes)).expect("there are enough bytes"));
    proptest::collection::vec(step, 1..150)
}

const ACKNOWLEDGING: Plan = Plan {
    acknowledges: true,
    honest: true,
    connect_only: false,
    echoes: true,
    greets: false,
    queue_events: 5,
    queue_bytes: 1 << 20,
};

const PLAIN: Plan = Plan {
    acknowledges: false,
    ..ACKNOWLEDGING
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_acknowledging_client_gets_everything_once(steps in steps()) {
        World::new(ACKNOWLEDGING).run(&steps);
    }

    #[test]
    fn a_plain_client_gets_everything(steps in steps()) {
        World::new(PLAIN).run(&steps);
    }

    #[test]
    fn a_plain_client_that_gets_events_with_connects_only_gets_everything(steps in steps()) {
        World::new(Plan { connect_only: true, echoes: false, greets: true, ..PLAIN }).run(&steps);
    }

    #[test]
    fn a_client_that_lies_costs_no_more_than_others(steps in steps(), acknowledges in any::<bool>()) {
        let plan = Plan { acknowledges, honest: false, greets: acknowledges, queue_bytes: 300, ..ACKNOWLEDGING };
        World::new(plan).run(&steps);
    }
}

#[test]
fn a_number_that_the_client_had_before_does_not_confirm_a_gap() {
    use Step::*;
    let publish = |channel| Publish {
        channel,
        size: 0,
        lazy: 0,
    };
    let found = [
        vec![publish(0); 5],
        vec![
            Subscribe(1),
            publish(0),
            publish(0),
            Retain(1),
            publish(0),
            Dispatch(1),
            publish(1),
            publish(2),
        ],
        vec![
            CONNECT,
            publish(0),
            publish(0),
            publish(0),
            Unsubscribe(0),
            Arrive(2),
            Retain(4),
        ],
        vec![
            SubscribeOnNewSocket(0),
            Restart,
            publish(0),
            CONNECT,
            Retain(4),
            Pass(30_000),
        ],
        vec![Read { which: 0 }, CONNECT],
    ];
    World::new(ACKNOWLEDGING).run(&found.concat());
}

const CONNECT: Step = Step::Connect {
    socket: false,
    claim: Claim::Honest,
    advice: 0,
    batch: false,
};

#[test]
fn two_lost_logs_are_two_even_if_they_are_equally_long() {
    use Step::*;
    let found = [LoseLog(202), CONNECT, Arrive(4), LoseLog(202), CONNECT, CONNECT];
    World::new(ACKNOWLEDGING).run(&found);
}

#[test]
fn a_replay_brings_what_was_dispatched_before_anybody_asked() {
    use Step::*;
    let publish = Publish {
        channel: 1,
        size: 0,
        lazy: 0,
    };
    let replay = Replay {
        pattern: 1,
        from: From::Start,
    };
    World::new(PLAIN).run(&[publish, Dispatch(1), replay]);
}

#[test]
fn the_answer_to_a_close_does_not_prove_what_left_on_another_socket() {
    use Step::*;
    let connect = Connect {
        socket: true,
        claim: Claim::Honest,
        advice: 0,
        batch: false,
    };
    let publish = Publish {
        channel: 0,
        size: 0,
        lazy: 0,
    };
    let plan = Plan {
        connect_only: true,
        ..PLAIN
    };
    World::new(plan).run(&[connect, SubscribeOnNewSocket(0), publish, Dispatch(1), Close]);
}
