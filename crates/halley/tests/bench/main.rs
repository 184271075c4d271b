//! `halley bench`: every scenario against a broker in this process, and against a server that does not keep its promises.

mod broker;
mod command;
mod faults;
mod scenarios;
mod stub;
