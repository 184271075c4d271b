//! A session between its client, its log and its clock, and everything that can happen to them.
//!
//! The input is a plan ([`Plan`]) and any number of steps ([`Step`]). After each step and at the end the model in
//! `world.rs` says what must be true: nobody gets what it did not ask for, nothing comes out of order, nothing is lost,
//! with acknowledgements nothing comes twice, memory is bounded, and no connect is held for longer than it may be.
//! `tests/simulation.rs` draws from the same steps with proptest, which cuts what it finds down to what is needed.

mod client;
mod node;
mod step;
mod words;
mod world;

use arbitrary::{Arbitrary, Result, Unstructured};

pub use step::{Claim, From, Step, Words};
pub use world::{Plan, World};

use crate::Target;

/// The session.
pub const TARGET: Target = Target {
    name: "session",
    run,
    show,
};

/// More than this only takes longer.
const STEPS: usize = 400;

fn run(input: &[u8]) {
    if let Ok((plan, steps)) = parse(input) {
        World::new(plan).run(&steps);
    }
}

fn show(input: &[u8]) -> String {
    match parse(input) {
        Err(error) => error.to_string(),
        Ok((plan, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("{step:?}\n")).collect();
            format!("{plan:?}\n{}", steps.concat())
        }
    }
}

fn parse(input: &[u8]) -> Result<(Plan, Vec<Step>)> {
    let mut unread = Unstructured::new(input);
    let plan = Plan::arbitrary(&mut unread)?;
    let mut steps = Vec::new();
    while !unread.is_empty() && steps.len() < STEPS {
        steps.push(Step::arbitrary(&mut unread)?);
    }
    Ok((plan, steps))
}

impl<'a> Arbitrary<'a> for Plan {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let [kind, queue] = u.arbitrary::<[u8; 2]>()?;
        Ok(Self {
            acknowledges: kind & 1 == 0,
            honest: kind & 2 == 0,
            connect_only: kind & 4 != 0,
            echoes: kind & 8 == 0,
            queue_events: 1 + usize::from(queue % 16),
            queue_bytes: [100, 300, 1000, 1 << 20][usize::from(queue / 64)],
        })
    }
}
