//! Waits for events until an exact time. `epoll_wait` rounds up to milliseconds, which every event would be late by.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

/// A poll that wakes up in time.
pub(super) struct Alarm {
    poll: Poll,
    #[cfg(target_os = "linux")]
    timer: linux::Timer,
}

impl Alarm {
    /// Events with `token` are of the alarm itself and mean nothing.
    pub(super) fn new(token: Token) -> io::Result<Self> {
        let poll = Poll::new()?;
        #[cfg(target_os = "linux")]
        let timer = linux::Timer::new(poll.registry(), token)?;
        #[cfg(not(target_os = "linux"))]
        let _ = token;
        Ok(Self {
            poll,
            #[cfg(target_os = "linux")]
            timer,
        })
    }

    pub(super) fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Waits for events, but no longer than this.
    pub(super) fn wait(&mut self, events: &mut Events, longest: Duration) -> io::Result<()> {
        let timeout = self.round(longest)?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Where the system is precise enough by itself.
    #[cfg(not(target_os = "linux"))]
    fn round(&mut self, longest: Duration) -> io::Result<Option<Duration>> {
        Ok(Some(longest))
    }

    #[cfg(target_os = "linux")]
    fn round(&mut self, longest: Duration) -> io::Result<Option<Duration>> {
        const ROUNDED: Duration = Duration::from_millis(50);
        if longest.is_zero() || longest >= ROUNDED {
            return Ok(Some(longest));
        }
        self.timer.set(longest)?;
        Ok(Some(ROUNDED))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timer among the sources of events.
    pub(super) struct Timer(OwnedFd);

    impl Timer {
        pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Goes off once. It need not be read: each time that it goes off is an event of its own.
        pub(super) fn set(&self, after: Duration) -> io::Result<()> {
            let once = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: Timespec {
                    tv_sec: 0,
                    tv_nsec: after.subsec_nanos().into(),
                },
            };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }
    }
}
