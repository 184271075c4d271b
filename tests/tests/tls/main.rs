//! TLS on both listeners, as clients and backends meet it. Certificates are made by each test.

#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "../bad_input/it.rs"]
mod it;

mod agreeing;
mod certificates;
mod delivering;
mod peer;
mod publishers;
mod renewing;
