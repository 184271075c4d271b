//! What the clock on the wall said, as text. The time itself is always an argument.

/// `Mon Nov 23 01:06:29 UTC 2026`, the form of CometD's server, from milliseconds since 1970.
pub(crate) fn timestamp(milliseconds: u64) -> String {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_written_as_cometd_writes_it() {
        assert_eq!(
            super::timestamp(1_795_395_989_000),
            "Mon Nov 23 01:06:29 UTC 2026"
        );
    }

    #[test]
    fn a_time_beyond_all_calendars_is_the_last_one() {
        assert!(super::timestamp(u64::MAX).ends_with("UTC 9999"));
    }
}
