//! Every committed input is played again: what the engine found worth keeping (`corpus/`), and what people wrote and what
//! was once a finding (`seeds/`), whose names say what they are.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn nothing_is_wrong_with_any_committed_input() {
    let mut wrong = Vec::new();
    for target in fuzz::ALL {
        for of in ["seeds", "corpus"] {
            let inputs = entries(&folder(of).join(target.name));
            assert!(inputs.len() > 5, "{of} of {} are missing", target.name);
            for path in inputs {
                let input = fs::read(&path).expect("a readable input");
                if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                    wrong.push(format!("cargo run -p fuzz -- {} {}", target.name, path.display()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "to see each of these, with its input:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_folder_of_inputs_has_its_target() {
    for of in ["seeds", "corpus"] {
        let folders = entries(&folder(of));
        let names: Vec<_> = folders
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        let mut targets: Vec<_> = fuzz::ALL.iter().map(|target| target.name).collect();
        targets.sort_unstable();
        assert_eq!(names, targets, "fuzz/{of}");
    }
}
