//! How many sessions of one browser have a connect held by long-polling.
//!
//! Browsers open six connections of HTTP/1.1 to a host. When every tab holds one of them, none is left to subscribe with, and the
//! seventh tab gets through to nobody.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::Handle;
use crate::auth::Browser;

/// Who is held, by browser.
#[derive(Default)]
pub struct Crowd {
    held_by_browser: DashMap<Browser, Vec<Held>>,
}

/// One session.
struct Held {
    handle: Arc<Handle>,
    /// Its connects: two for a moment, when one takes over from another.
    connects: usize,
}

/// A held connect that counts, for as long as this is kept.
pub struct Seat {
    crowd: Arc<Crowd>,
    browser: Browser,
    handle: Arc<Handle>,
}

impl Crowd {
    /// A seat for a connect of this session, unless as many other sessions of the browser as there may be have one.
    pub fn seat(self: &Arc<Self>, browser: &Browser, handle: &Arc<Handle>, most: usize) -> Option<Seat> {
        match self.held_by_browser.entry(Arc::clone(browser)) {
            Entry::Occupied(mut held) => sit_down(held.get_mut(), handle, most)?,
            // A browser of which nobody is held leaves nothing behind.
            Entry::Vacant(_) if most == 0 => return None,
            Entry::Vacant(place) => drop(place.insert(vec![Held::first(handle)])),
        }
        Some(Seat {
            crowd: Arc::clone(self),
            browser: Arc::clone(browser),
            handle: Arc::clone(handle),
        })
    }
}

fn sit_down(held: &mut Vec<Held>, handle: &Arc<Handle>, most: usize) -> Option<()> {
    if let Some(known) = held.iter_mut().find(|held| held.is_of(handle)) {
        known.connects += 1;
    } else if held.len() < most {
        held.push(Held::first(handle));
    } else {
        return None;
    }
    Some(())
}

impl Held {
    fn first(handle: &Arc<Handle>) -> Self {
        Self {
            handle: Arc::clone(handle),
            connects: 1,
        }
    }

    fn is_of(&self, handle: &Arc<Handle>) -> bool {
        Arc::ptr_eq(&self.handle, handle)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Entry::Occupied(mut entry) = self.crowd.held_by_browser.entry(Arc::clone(&self.browser)) else {
            return;
        };
        entry.get_mut().retain_mut(|held| {
            held.connects -= usize::from(held.is_of(&self.handle));
            held.connects > 0
        });
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}
