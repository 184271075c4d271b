//! Benches: `cargo bench -p halley-benches`. Each file in `benches/` answers the question in its first line.
