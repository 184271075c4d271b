//! The edge of the public listener, as browsers meet it: cookies, pages of other origins, many tabs on one
//! connection.
//!
//! In process, over real sockets, with a log in memory, spoken to by hyper's own client.

mod cookie;
mod cors;
mod frames;
mod http2;
mod it;
mod tabs;
