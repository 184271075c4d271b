//! What happens to a `file:` log: killed processes, torn and damaged files, full disks, a disk that cannot sync.

mod child;
mod disk;
mod files;
