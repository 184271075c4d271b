//! The files of `deploy/cluster`: each is what its program takes, they name the same things, and together they run.

mod files;
mod it;
mod nginx;
mod running;
