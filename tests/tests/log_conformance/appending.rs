//! Storing events: order, durability, repeated ids.

use std::time::{Duration, Instant, SystemTime};

use bayeux::{ClientId, Offset, ReplayId, Traits};
use halley::event::Event;
use halley::log::{LogError, Position};

use crate::it::{
    anybody, every_durable_kind, every_kind, every_kind_with, everyone, file, offsets, settings, to, user,
    with_id,
};

const NEW: fn(u64) -> Position = |offset| Position {
    offset: Offset(offset),
    duplicate: false,
};
const AGAIN: fn(u64) -> Position = |offset| Position {
    offset: Offset(offset),
    duplicate: true,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_appended_event_is_read_back_byte_for_byte() {
    for it in every_kind() {
        let data = r#"{ "n":1e400,"s":"\u0000\ud83d\ude00 é","deep":[[[{}]]] }"#;
        it.append([everyone("/v2/calls", data), to("15000", "/v2/me/calls", data)])
            .await;
        let page = it.read(user("15000", &["/**"]), 0).await;
        let frames = page
            .events
            .iter()
            .map(|event| String::from_utf8_lossy(event.frame()).into_owned());
        let expected =
            ["/v2/calls", "/v2/me/calls"].map(|name| format!(r#"[{{"channel":"{name}","data":{data}}}]"#));
        assert_eq!(frames.collect::<Vec<_>>(), expected);
        let channels = page.events.iter().map(|event| event.channel().as_str());
        assert_eq!(channels.collect::<Vec<_>>(), ["/v2/calls", "/v2/me/calls"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_event_beside_its_frame_is_read_back() {
    for it in every_kind() {
        let traits = Traits {
            lazy: Some(Duration::from_millis(1500)),
            not_to: Some(ClientId::new("abc")),
            ..Traits::default()
        };
        let before = milliseconds(SystemTime::now());
        let event = Event {
            traits,
            ..everyone("/a", "1")
        };
        it.append([event]).await;
        let page = it.read(anybody(&["/a"]), 0).await;
        let marks = page.events[0].marks();
        assert_eq!(marks.lazy, Some(Duration::from_millis(1500)));
        assert_eq!(marks.not_to, Some(ClientId::new("abc")));
        assert!((before..=milliseconds(SystemTime::now())).contains(&marks.stored));
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock of today");
    u64::try_from(since.as_millis()).expect("a clock of today")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_carries_its_own_offset_where_it_was_asked_to() {
    for it in every_kind() {
        let with_offset = |data| Event {
            traits: Traits {
                replay_id: Some(ReplayId::Data),
                ..Traits::default()
            },
            ..everyone("/e", data)
        };
        let mut following = it.log().follow();
        it.append([everyone("/a", "1"), with_offset("{}"), with_offset("{}")])
            .await;
        let data =
            |offset: u64| format!(r#"[{{"channel":"/e","data":{{"event":{{"replayId":{offset:<16}}}}}}}]"#);
        let page = it.read(anybody(&["/e"]), 0).await;
        let read: Vec<_> = page
            .events
            .iter()
            .map(|event| String::from_utf8_lossy(event.frame()).into_owned())
            .collect();
        assert_eq!(read, [data(2), data(3)]);
        let followed = following.batches.recv().await.expect("a batch");
        assert_eq!(followed[1].delivery.frame(), page.events[0].frame());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_rise_by_one() {
    for it in every_kind() {
        assert_eq!(it.bounds(), (1, 0));
        assert_eq!(it.append([everyone("/a", "1")]).await, [1]);
        assert_eq!(it.append([to("u", "/b", "2"), everyone("/a", "3")]).await, [2, 3]);
        assert_eq!(it.bounds(), (1, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_rise_by_one_and_go_on_after_a_restart() {
    for mut it in every_durable_kind() {
        it.append([everyone("/a", "1"), everyone("/a", "2")]).await;
        it.restart();
        assert_eq!(it.bounds(), (1, 2));
        assert_eq!(it.append([everyone("/a", "3")]).await, [3]);
        it.restart();
        assert_eq!(offsets(&it.read(anybody(&["/a"]), 0).await.events), [1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_takes_the_place_and_not_the_first_poll() {
    for it in every_kind() {
        let first = it.log().append(vec![everyone("/a", "1")]);
        let second = it.log().append(vec![everyone("/a", "2")]);
        let second = second.await.expect("stored");
        let first = first.await.expect("stored");
        assert_eq!((first, second), (vec![NEW(1)], vec![NEW(2)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_nobody_waits_for_is_stored_all_the_same() {
    for it in every_kind() {
        drop(it.log().append(vec![everyone("/a", "1")]));
        assert_eq!(it.append([everyone("/a", "2")]).await, [2]);
        assert_eq!(offsets(&it.read(anybody(&["/a"]), 0).await.events), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publishers_at_once_get_each_offset_once() {
    for it in every_kind() {
        let calls = (0..200).map(|n| {
            tokio::spawn(
                it.log()
                    .append(vec![everyone("/a", "1"), to("u", &format!("/{n}"), "2")]),
            )
        });
        let mut seen = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let positions = call.await.expect("no panic").expect("stored");
            assert_eq!(
                positions[1].offset,
                positions[0].offset.next(),
                "the events of one call stay together"
            );
            seen.extend(positions.iter().map(|position| position.offset.0));
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=400).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_can_be_read_at_once() {
    for it in every_kind() {
        for n in 1..100 {
            it.append([everyone("/a", "1")]).await;
            assert_eq!(it.bounds().1, n);
            assert_eq!(offsets(&it.read(anybody(&["/a"]), n - 1).await.events), [n]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_answered_with_the_first_position() {
    for it in every_kind() {
        it.append([everyone("/a", "0")]).await;
        let event = || with_id("k", everyone("/a", "1"));
        assert_eq!(it.positions([event()]).await, [NEW(2)]);
        assert_eq!(it.positions([event()]).await, [AGAIN(2)]);
        assert_eq!(
            it.positions([everyone("/a", "2"), event()]).await,
            [NEW(3), AGAIN(2)]
        );
        assert_eq!(offsets(&it.read(anybody(&["/a"]), 0).await.events), [1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_repeated_whoever_the_event_is_for() {
    for it in every_kind() {
        assert_eq!(it.positions([with_id("k", to("u", "/a", "1"))]).await, [NEW(1)]);
        assert_eq!(
            it.positions([with_id("k", everyone("/b", "1"))]).await,
            [AGAIN(1)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_found_inside_one_call() {
    for it in every_kind() {
        let event = |id| with_id(id, everyone("/a", "1"));
        assert_eq!(
            it.positions([event("x"), event("y"), event("x")]).await,
            [NEW(1), NEW(2), AGAIN(1)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_found_in_calls_that_are_stored_together() {
    for it in every_kind() {
        let calls = (0..50)
            .map(|_| it.log().append(vec![with_id("k", everyone("/a", "1"))]))
            .collect::<Vec<_>>();
        for (n, call) in calls.into_iter().enumerate() {
            let expected = if n == 0 { NEW(1) } else { AGAIN(1) };
            assert_eq!(call.await.expect("stored"), [expected]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_answered_with_the_first_position_also_after_a_restart() {
    for mut it in every_durable_kind() {
        it.append([everyone("/a", "0"), with_id("k", everyone("/a", "1"))])
            .await;
        it.restart();
        assert_eq!(
            it.positions([with_id("k", everyone("/a", "1"))]).await,
            [AGAIN(2)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_stored_again_after_the_window() {
    let window = Duration::from_millis(600);
    for it in every_kind_with(|settings| settings.dedup_window = window) {
        let event = |id: &str| with_id(id, everyone("/a", "1"));
        let begun = Instant::now();
        it.positions([event("k")]).await;
        // Other ids come meanwhile, as they do in a broker at work.
        for n in 0.. {
            tokio::time::sleep(window / 6).await;
            it.positions([event(&n.to_string())]).await;
            it.log().retain(SystemTime::now()).await.expect("retention works");
            let again = it.positions([event("k")]).await;
            if begun.elapsed() >= window {
                break;
            }
            assert_eq!(again, [AGAIN(1)], "never earlier than the window");
        }
        tokio::time::sleep(window * 3 / 2).await;
        let anew = it.positions([event("k")]).await[0];
        assert!(!anew.duplicate && anew.offset > Offset(1), "{anew:?}");
        assert_eq!(it.positions([event("k")]).await, [AGAIN(anew.offset.0)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_stays_with_the_log() {
    for mut it in every_durable_kind() {
        let before = it.log().epoch().clone();
        it.restart();
        assert_eq!(it.log().epoch(), &before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_has_another_epoch() {
    for (it, other) in every_kind().zip(every_kind()) {
        assert_ne!(it.log().epoch(), other.log().epoch());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_told_that_the_log_is_in_use() {
    let it = file(settings());
    let Err(error) = it.try_open() else {
        panic!("opened twice")
    };
    assert!(
        error.to_string().contains("another process has it open"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_too_long_is_refused_and_harms_nothing() {
    let it = file(settings());
    let long = "x".repeat(70_000);
    for event in [
        to(&long, "/a", "1"),
        everyone(&format!("/{long}"), "1"),
        with_id(&long, everyone("/a", "1")),
    ] {
        let refused = it.log().append(vec![event]).await;
        assert!(matches!(refused, Err(LogError::Unusable(_))), "{refused:?}");
    }
    assert!(
        it.read(user(&long, &["/a", &format!("/{long}/*")]), 0)
            .await
            .events
            .is_empty()
    );
    assert_eq!(it.append([everyone("/a", "1")]).await, [1]);
}
