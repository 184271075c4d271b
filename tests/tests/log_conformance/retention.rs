//! Forgetting: by age, by size, and what a jumping clock can do.

use std::time::{Duration, SystemTime};

use bayeux::Offset;

use crate::it::{
    It, anybody, every_durable_kind_with_buckets, every_kind, every_kind_with, every_kind_with_buckets,
    every_kind_with_buckets_and, everyone, offsets,
};

const HOUR: Duration = Duration::from_secs(3600);

impl It {
    async fn retain(&self, now: SystemTime) {
        self.log().retain(now).await.expect("retention works");
    }

    /// Ten events in a bucket of their own.
    async fn ten(&self) {
        self.append((0..10).map(|_| everyone("/a", "1"))).await;
        self.retain(SystemTime::now() + 2 * HOUR).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_age_drops_what_is_older_and_nothing_else() {
    for it in every_kind_with_buckets() {
        it.ten().await;
        it.ten().await;
        it.retain(SystemTime::now() + 23 * HOUR).await;
        assert_eq!(it.bounds(), (1, 20));
        it.retain(SystemTime::now() + 25 * HOUR).await;
        assert_eq!(it.bounds(), (11, 20));
        assert_eq!(
            offsets(&it.read(anybody(&["/a"]), 10).await.events),
            (11..=20).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_bytes_drops_the_oldest_until_the_rest_fits() {
    for it in every_kind_with(|settings| settings.retention_bytes = 64 * 1024) {
        for _ in 0..200 {
            it.append([everyone("/a", &format!("\"{}\"", "x".repeat(1000)))])
                .await;
        }
        it.retain(SystemTime::now()).await;
        let (first, last) = it.bounds();
        assert_eq!(last, 200);
        assert!(
            (137..=150).contains(&first),
            "about 64 KiB are left, not {}",
            last + 1 - first
        );
        assert!(it.log().size_bytes() <= 64 * 1024);
        assert_eq!(
            offsets(&it.read(anybody(&["/a"]), first - 1).await.events),
            (first..=200).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_bucket_stays() {
    for it in every_kind_with_buckets_and(|settings| settings.retention_bytes = 1) {
        it.append([everyone("/a", "1")]).await;
        it.append([everyone("/a", "1")]).await;
        for _ in 0..3 {
            it.retain(SystemTime::now() + 1000 * HOUR).await;
        }
        assert_eq!(it.bounds(), (2, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_before_retention_says_what_is_left() {
    for it in every_kind_with_buckets() {
        it.ten().await;
        it.ten().await;
        it.retain(SystemTime::now() + 25 * HOUR).await;
        for (after, gap) in [(0, Some(11)), (9, Some(11)), (10, None), (15, None)] {
            let page = it.read(anybody(&["/a"]), after).await;
            assert_eq!(page.gap, gap.map(Offset), "after {after}");
            assert_eq!(
                offsets(&page.events),
                (after.max(10) + 1..=20).collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_stays_dropped_after_a_restart_and_offsets_go_on() {
    for mut it in every_durable_kind_with_buckets() {
        it.ten().await;
        it.ten().await;
        it.retain(SystemTime::now() + 25 * HOUR).await;
        it.restart();
        assert_eq!(it.bounds(), (11, 20));
        assert_eq!(it.read(anybody(&["/a"]), 0).await.gap, Some(Offset(11)));
        assert_eq!(it.append([everyone("/a", "1")]).await, [21]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_forward_drops_at_most_one_bucket_per_call() {
    for it in every_kind_with_buckets() {
        for _ in 0..4 {
            it.ten().await;
        }
        it.retain(SystemTime::now() + 100_000 * HOUR).await;
        assert_eq!(it.bounds(), (11, 40));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_drops_nothing_and_keeps_the_order() {
    for it in every_kind() {
        it.ten().await;
        it.ten().await;
        it.retain(SystemTime::UNIX_EPOCH).await;
        it.ten().await;
        it.retain(SystemTime::UNIX_EPOCH).await;
        assert_eq!(it.bounds(), (1, 30));
        assert_eq!(
            offsets(&it.read(anybody(&["/a"]), 0).await.events),
            (1..=30).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_runs_while_its_bucket_is_dropped_ends_well() {
    for it in every_kind_with(|settings| settings.retention_bytes = 64 * 1024) {
        let log = it.log().clone();
        let publisher = tokio::spawn(async move {
            for _ in 0..100 {
                log.append((0..10).map(|_| everyone("/a", "1")).collect())
                    .await
                    .unwrap();
                log.retain(SystemTime::now()).await.unwrap();
            }
        });
        while !publisher.is_finished() {
            let page = it.read(anybody(&["/*"]), 0).await;
            let first = page.gap.map_or(1, |gap| gap.0);
            assert_eq!(
                offsets(&page.events),
                (first..=page.through.0).collect::<Vec<_>>()
            );
        }
        publisher.await.unwrap();
    }
}
