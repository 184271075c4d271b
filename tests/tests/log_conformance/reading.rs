//! Reading: who reads what, in which portions.

use bayeux::Offset;
use halley::event::{Event, Tenant};
use halley::log::{Interest, Limit};

use crate::it::{anybody, every_kind, every_kind_with_buckets_and, everyone, offsets, to, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_only_his_own_events() {
    for it in every_kind() {
        let names = [
            "15000",
            "1500",
            "150000",
            "",
            "15000\0",
            "15000/*",
            "\u{0}\u{5}15000",
            "ü",
        ];
        it.append(names.map(|name| to(name, "/v2/me/calls", "1"))).await;
        for (n, name) in names.iter().enumerate() {
            let page = it.read(user(name, &["/**", "/v2/me/calls"]), 0).await;
            assert_eq!(offsets(&page.events), [n as u64 + 1], "{name:?}");
        }
        assert!(
            it.read(anybody(&["/**", "/v2/me/calls"]), 0)
                .await
                .events
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_his_own_events_and_those_for_everyone_in_one_order() {
    for it in every_kind() {
        it.append([
            everyone("/news", "1"),
            to("u", "/calls", "2"),
            to("v", "/calls", "3"),
            everyone("/calls", "4"),
            to("u", "/news", "5"),
            everyone("/other", "6"),
        ])
        .await;
        let page = it.read(user("u", &["/calls", "/news"]), 0).await;
        assert_eq!(offsets(&page.events), [1, 2, 4, 5]);
        assert_eq!((page.through, page.gap), (Offset(6), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_channels_that_a_pattern_matches_are_read() {
    for it in every_kind() {
        let channels = [
            "/a", "/a/b", "/a/b/c", "/a/c", "/a-b", "/ab", "/b", "/a/b/c/d", "/a/*", "/foo*", "/foobar",
        ];
        it.append(channels.map(|name| everyone(name, "1"))).await;
        it.append(channels.map(|name| to("u", name, "1"))).await;
        for pattern in [
            "/a", "/a/*", "/a/**", "/**", "/*", "/a/b/*", "/b/*", "/foo*", "/c/**",
        ] {
            let own = anybody(&[pattern]).patterns.remove(0);
            let names = channels
                .iter()
                .map(|name| bayeux::ChannelName::parse(name).unwrap());
            let first = names
                .zip(1..)
                .filter(|(name, _)| own.matches(name))
                .map(|(_, n)| n)
                .collect::<Vec<_>>();
            assert_eq!(
                offsets(&it.read(anybody(&[pattern]), 0).await.events),
                first,
                "{pattern}"
            );
            let both = first
                .iter()
                .copied()
                .chain(first.iter().map(|n| n + channels.len() as u64));
            assert_eq!(
                offsets(&it.read(user("u", &[pattern]), 0).await.events),
                both.collect::<Vec<_>>(),
                "{pattern}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_overlap_give_an_event_once() {
    for it in every_kind() {
        it.append([everyone("/a/b", "1"), to("u", "/a/b", "2")]).await;
        let page = it
            .read(user("u", &["/a/b", "/a/*", "/a/**", "/**", "/a/b"]), 0)
            .await;
        assert_eq!(offsets(&page.events), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_patterns_nothing_is_read() {
    for it in every_kind() {
        it.append([everyone("/a", "1"), to("u", "/a", "2")]).await;
        let page = it.read(user("u", &[]), 0).await;
        assert_eq!((page.events.len(), page.through), (0, Offset(2)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_the_limit_and_the_next_one_goes_on() {
    // Small buckets, so that pages end inside them, at their ends, and go over several.
    let small = every_kind_with_buckets_and(|settings| settings.retention_bytes = 16 * 300);
    for it in every_kind().chain(small) {
        for n in 0..60 {
            it.append([
                everyone(&format!("/a/{}", n % 7), "1"),
                to("u", "/b", "2"),
                to("v", "/b", "3"),
            ])
            .await;
        }
        let who = || user("u", &["/a/*", "/b"]);
        let all = offsets(&it.read(who(), 0).await.events);
        assert_eq!(all.len(), 120);
        for size in [1, 7, 60, 119, 120, 121] {
            let (mut seen, mut after) = (Vec::new(), 0);
            loop {
                let page = it.page(who(), after, size).await;
                assert!(page.events.len() <= size && page.gap.is_none());
                if page.events.is_empty() {
                    break;
                }
                if page.events.len() == size && page.through.0 < 180 {
                    assert_eq!(
                        page.through,
                        page.events[size - 1].offset(),
                        "no further than the last event"
                    );
                }
                seen.extend(offsets(&page.events));
                after = page.through.0;
            }
            assert_eq!((seen, after), (all.clone(), 180));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_its_bytes_but_has_at_least_one_event() {
    for it in every_kind() {
        it.append((0..10).map(|_| everyone("/a", &format!("\"{}\"", "x".repeat(1000)))))
            .await;
        for (bytes, count) in [(0, 1), (1, 1), (2100, 2), (usize::MAX, 10)] {
            let limit = Limit { events: 100, bytes };
            let page = it.log().read(&anybody(&["/a"]), Offset(0), limit).await.unwrap();
            assert_eq!(
                (page.events.len(), page.through),
                (count, Offset(count as u64)),
                "{bytes}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_event_there_is_nothing_and_no_gap() {
    for it in every_kind() {
        it.append([everyone("/a", "1")]).await;
        for after in [1, 2, Offset::MAX.0] {
            let page = it.read(user("u", &["/**"]), after).await;
            assert_eq!((page.events.len(), page.through, page.gap), (0, Offset(1), None));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_reads_as_nothing() {
    for it in every_kind() {
        let page = it.read(user("u", &["/**"]), 0).await;
        assert_eq!(
            (page.events.len(), page.through, page.gap),
            (0, Offset::START, None)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_channels_do_not_hide_short_ones() {
    for it in every_kind() {
        for _ in 0..3 {
            it.append((0..50).map(|_| everyone("/a/long", "1"))).await;
            it.append([
                everyone("/a/long/deeper", "1"),
                everyone("/a/mine", "1"),
                everyone("/a/z", "1"),
            ])
            .await;
        }
        let page = it.read(anybody(&["/a/*"]), 106).await;
        let expected = (107..=156).chain([158, 159]).collect::<Vec<_>>();
        assert_eq!(offsets(&page.events), expected);
        assert_eq!(
            offsets(&it.page(anybody(&["/a/*"]), 0, 3).await.events),
            [1, 2, 3]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_tenant_is_given_no_other_reads_whatever_it_asks_for() {
    const TENANTS: [&str; 4] = ["", "a", "ab", "b"];
    let of = |name: &str, event| Event {
        tenant: Tenant(name.into()),
        ..event
    };
    for it in every_kind() {
        // Offsets 1 and 2 of the first, 3 and 4 of the second, and so on.
        for name in TENANTS {
            it.append([
                of(name, to("15000", "/v2/me", "1")),
                of(name, everyone("/v2/all", "2")),
            ])
            .await;
        }
        for (place, name) in (0..).zip(TENANTS) {
            for patterns in [&["/**"][..], &["/v2/*"], &["/v2/me", "/v2/all"]] {
                let who = Interest {
                    tenant: Tenant(name.into()),
                    ..user("15000", patterns)
                };
                let page = it.read(who, 0).await;
                assert_eq!(
                    offsets(&page.events),
                    [2 * place + 1, 2 * place + 2],
                    "{name:?} {patterns:?}"
                );
            }
        }
    }
}
