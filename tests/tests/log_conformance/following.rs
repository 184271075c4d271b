//! The stream of what becomes durable.

use std::sync::Arc;
use std::time::Duration;

use bayeux::Offset;

use crate::it::{anybody, every_kind, everyone, next, offsets, to};

#[tokio::test(flavor = "multi_thread")]
async fn the_follower_gets_every_event_in_order_and_once() {
    for it in every_kind() {
        it.append([everyone("/a", "1")]).await;
        let mut followed = it.log().follow();
        assert_eq!(followed.after, Offset(1));
        for n in 0..100 {
            it.append([everyone("/a", "2"), to("u", &format!("/{n}"), "3")])
                .await;
            next(&mut followed, 2).await;
        }
        it.append([everyone("/a", "4")]).await;
        assert_eq!(next(&mut followed, 1).await, [202]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_follower_hears_whom_an_event_is_for() {
    for it in every_kind() {
        let mut followed = it.log().follow();
        let event = to("15000", "/v2/me/calls", r#"{"a":1}"#);
        let audience = event.audience.clone();
        it.append([event]).await;
        let batch = followed.batches.recv().await.unwrap();
        assert_eq!(batch[0].audience, audience);
        assert_eq!(
            batch[0].delivery.message(),
            br#"{"channel":"/v2/me/calls","data":{"a":1}}"#
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_follower_never_gets_a_repeated_event() {
    for it in every_kind() {
        let mut followed = it.log().follow();
        let event = || crate::it::with_id("k", everyone("/a", "1"));
        it.append([event(), event()]).await;
        it.append([event()]).await;
        it.append([everyone("/a", "2")]).await;
        assert_eq!(next(&mut followed, 2).await, [1, 2]);
    }
}

/// While publishers are at work, a reader that begins at any moment has everything: what was there, and then the rest.
#[tokio::test(flavor = "multi_thread")]
async fn following_and_reading_meet_without_gap_or_overlap() {
    for it in every_kind() {
        let log = it.log().clone();
        let publisher = tokio::spawn(async move {
            for _ in 0..300 {
                log.append(vec![everyone("/a", "1"), everyone("/a", "2")])
                    .await
                    .unwrap();
            }
        });
        for _ in 0..10 {
            let mut followed = it.log().follow();
            let mut seen = offsets(&it.read(anybody(&["/a"]), 0).await.events);
            seen.retain(|offset| *offset <= followed.after.0);
            let rest = if followed.after.0 < 600 {
                next(&mut followed, 1).await
            } else {
                Vec::new()
            };
            seen.extend(rest);
            assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        }
        publisher.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_follower_ends_the_first_stream() {
    for it in every_kind() {
        let mut first = it.log().follow();
        it.append([everyone("/a", "1")]).await;
        let mut second = it.log().follow();
        it.append([everyone("/a", "2")]).await;
        assert_eq!(next(&mut second, 1).await, [2]);
        assert_eq!(next(&mut first, 1).await, [1]);
        assert!(first.batches.recv().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_slows_publishers_down_and_loses_nothing() {
    for it in every_kind() {
        let mut followed = it.log().follow();
        let log = it.log().clone();
        let publisher = tokio::spawn(async move {
            for _ in 0..200 {
                log.append(vec![everyone("/a", "1")]).await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(
            !publisher.is_finished(),
            "the follower takes nothing, so the writer waits"
        );
        assert!(it.bounds().1 < 50);
        assert_eq!(next(&mut followed, 200).await, (1..=200).collect::<Vec<_>>());
        publisher.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_replaced_or_dropped_holds_nobody_up() {
    for it in every_kind() {
        let stuck = it.log().follow();
        let log = it.log().clone();
        let publisher = tokio::spawn(async move {
            for _ in 0..100 {
                log.append(vec![everyone("/a", "1")]).await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(it.log().follow());
        tokio::time::timeout(Duration::from_secs(10), publisher)
            .await
            .expect("publishing goes on")
            .unwrap();
        drop(stuck);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_with_the_log_even_when_the_follower_is_slow() {
    for mut it in every_kind() {
        let mut followed = it.log().follow();
        let calls = (0..100)
            .map(|_| it.log().append(vec![everyone("/a", "1")]))
            .collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_millis(50)).await;
        it.close();
        for call in calls {
            call.await.expect("what was called before the end is stored");
        }
        while followed.batches.recv().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_never_shows_what_the_bounds_do_not() {
    for it in every_kind() {
        let log = it.log().clone();
        let done = Arc::new(());
        let running = Arc::downgrade(&done);
        let publisher = tokio::spawn(async move {
            let _done = done;
            for n in 0..300 {
                log.append(vec![everyone(&format!("/a/{}", n % 5), "1")])
                    .await
                    .unwrap();
            }
        });
        while running.strong_count() > 0 {
            let page = it.read(anybody(&["/a/*"]), 0).await;
            assert!(page.through.0 <= it.bounds().1);
            assert_eq!(offsets(&page.events), (1..=page.through.0).collect::<Vec<_>>());
        }
        publisher.await.unwrap();
    }
}
