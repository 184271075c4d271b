//! With `--cfg fuzzing` the engine of every target, which `--target=NAME` chooses (libFuzzer leaves what begins with two
//! dashes alone); otherwise `cargo run -p fuzz -- NAME FILE…` shows each file and runs the target on it.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use std::sync::OnceLock;

    use fuzz::Target;

    static CHOSEN: OnceLock<&Target> = OnceLock::new();

    fn choose() -> &'static Target {
        std::env::args()
            .find_map(|argument| fuzz::target(argument.strip_prefix("--target=")?))
            .expect("--target=NAME is one of fuzz::ALL")
    }

    libfuzzer_sys::fuzz_target!(|input: &[u8]| {
        (CHOSEN.get_or_init(choose).run)(input);
    });
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match replay::replay(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            replay::say(&problem);
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(fuzzing))]
mod replay {
    use std::io::Write;

    pub(super) fn replay(arguments: &[String]) -> Result<(), String> {
        let [name, files @ ..] = arguments else {
            return Err(usage());
        };
        let target = fuzz::target(name).ok_or_else(usage)?;
        for file in files {
            let input = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            say(&format!("{file}:\n{}", (target.show)(&input)));
            (target.run)(&input);
            say("nothing is wrong with this one\n");
        }
        Ok(())
    }

    pub(super) fn say(text: &str) {
        // That nobody reads it is no failure.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn usage() -> String {
        let names: Vec<_> = fuzz::ALL.iter().map(|target| target.name).collect();
        format!(
            "usage: cargo run -p fuzz -- TARGET FILE…, with TARGET one of {}",
            names.join(", ")
        )
    }
}
