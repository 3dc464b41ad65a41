//! Places that callers share: so many in all, and so many for one of them, so that nobody can have them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, by who holds them.
pub(super) struct Places<K> {
    most: usize,
    most_each: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// A place; given back when this is dropped.
pub(super) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    holder: K,
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(super) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, held: Mutex::default() })
    }

    /// A place for the holder, if there is one left for them.
    pub(super) fn take(self: &Arc<Self>, holder: K) -> Option<Place<K>> {
        let mut held = self.held();
        let all: usize = held.values().sum();
        let own = held.get(&holder).copied().unwrap_or_default();
        if all >= self.most || own >= self.most_each {
            return None;
        }
        held.insert(holder.clone(), own + 1);
        Some(Place { places: Arc::clone(self), holder })
    }
}

impl<K> Places<K> {
    /// How many are held.
    pub(super) fn taken(&self) -> usize {
        self.held().values().sum()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if let Some(own) = held.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

/// Who an address belongs to, as far as that can be told: of IPv6, one network is given to one customer.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_all_places_and_each_comes_back() {
        let places = Places::new(3, 2);
        let a = [places.take("a"), places.take("a")];
        assert!(a.iter().all(Option::is_some));
        assert!(places.take("a").is_none());
        let b = places.take("b");
        assert!(b.is_some() && places.take("c").is_none());
        drop(a);
        assert!(places.take("c").is_some() && places.take("a").is_some());
        drop(b);
        assert!(places.held().is_empty());
    }

    #[test]
    fn neighbours_are_told_apart_as_they_are_given_addresses() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
