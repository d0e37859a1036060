//! Who is in the table: how servers come, go and are grouped, and who gives way where there is no room.

use std::net::IpAddr;

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use super::{
    IpGroup, Server, Servers,
    memory::Memory,
    place::{Link, Place},
};

/// The part of the table that the servers of one group can fill, and of one host.
const GROUP_SHARE: usize = 16;
const MIN_PER_GROUP: usize = 32;
const MAX_PER_HOST: usize = 8;
/// How many connections of one server are considered.
const MAX_LINKS: usize = 8;

impl Servers {
    /// `peer` speaks the protocol on `link`. `true` if it was not known as a server, or was silent or could not be paid on the
    /// links that it had.
    pub(crate) fn add(&mut self, peer: PeerId, link: Link, now: Instant) -> bool {
        let named = !link.is_relayed && link.ip.is_none();
        self.change(&peer, |memory| {
            named && !std::mem::replace(&mut memory.is_named, true)
        });
        if let Some(server) = self.get_mut(&peer) {
            let known = server.links.iter().any(|l| l.connection == link.connection);
            if !known {
                if server.links.len() >= MAX_LINKS {
                    // The oldest are the likeliest to be dead.
                    let silent = server.links.iter().position(|l| l.is_unresponsive);
                    server.links.remove(silent.unwrap_or(0));
                }
                let at = server
                    .links
                    .partition_point(|l| l.connection < link.connection);
                server.links.insert(at, link);
                let was_left_alone = server.memory.note_new_link(link.is_relayed);
                self.regroup(&peer);
                return was_left_alone;
            }
            return false;
        }
        let dials_from = self.past.peek(&peer).and_then(Memory::dials_from);
        let place = Place::of(&peer, &[link], dials_from);
        if !self.make_room(place, now) {
            return false;
        }
        let past = self.past.remove(&peer);
        // The first to be back after all were lost brings the others behind it.
        let is_new = past.is_none() || self.index.is_empty();
        self.gathering.note_arrival(is_new, now);
        let mut memory = past.unwrap_or_default();
        memory.is_named |= named;
        memory.note_new_link(link.is_relayed);
        let server = Server {
            peer,
            links: vec![link],
            place,
            memory,
            changed: 0,
        };
        let i = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[i] = Some(server);
        self.index.insert(peer, i);
        self.join_group(place.group, i);
        self.note_all_changed();
        true
    }

    /// `peer` no longer speaks the protocol on `connection`, or the connection is not to be used.
    pub(crate) fn remove(&mut self, peer: &PeerId, connection: ConnectionId) {
        let Some(server) = self.get_mut(peer) else {
            return;
        };
        let before = server.links.len();
        server.links.retain(|link| link.connection != connection);
        if server.links.len() == before {
            return;
        }
        let is_gone = server.links.is_empty();
        self.note_all_changed();
        if is_gone {
            self.forget(peer);
        } else {
            self.regroup(peer);
        }
    }

    /// The other end of `connection` is at another IP. `true` if it is a link to `peer`.
    pub(crate) fn move_link(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        ip: Option<IpAddr>,
    ) -> bool {
        let mut links = self.get_mut(peer).into_iter().flat_map(|it| &mut it.links);
        let Some(link) = links.find(|link| link.connection == connection) else {
            return false;
        };
        link.ip = ip;
        self.regroup(peer);
        true
    }

    pub(super) fn regroup(&mut self, peer: &PeerId) {
        let Some(i) = self.index.get(peer).copied() else {
            return;
        };
        let Some(server) = self.slots.get_mut(i).and_then(Option::as_mut) else {
            return;
        };
        let before = server.place.group;
        server.place = Place::of(peer, &server.links, server.memory.dials_from());
        let after = server.place.group;
        self.note_all_changed();
        if before != after {
            self.leave_group(before, i);
            self.join_group(after, i);
        }
    }

    fn join_group(&mut self, group: IpGroup, i: usize) {
        match self.groups.binary_search_by_key(&group, |(it, _)| *it) {
            Ok(at) => self.groups[at].1.push(i),
            Err(at) => self.groups.insert(at, (group, vec![i])),
        }
    }

    fn leave_group(&mut self, group: IpGroup, i: usize) {
        let Ok(at) = self.groups.binary_search_by_key(&group, |(it, _)| *it) else {
            return;
        };
        self.groups[at].1.retain(|member| *member != i);
        if self.groups[at].1.is_empty() {
            self.groups.remove(at);
        }
    }

    fn forget(&mut self, peer: &PeerId) {
        let Some(i) = self.index.remove(peer) else {
            return;
        };
        let Some(server) = self.slots.get_mut(i).and_then(Option::take) else {
            return;
        };
        self.free.push(i);
        self.leave_group(server.place.group, i);
        let mut memory = server.memory;
        memory.place = Some(server.place);
        self.past.insert(server.peer, memory);
        self.note_all_changed();
    }

    /// Makes room for a newcomer. Where its host or its group has its share of the table, one of these gives way; where the
    /// table is full, one of the largest group. `false` if there is no room.
    fn make_room(&mut self, place: Place, now: Instant) -> bool {
        let members = |group: &IpGroup| {
            let at = self.groups.binary_search_by_key(group, |(it, _)| *it).ok();
            at.map_or(&[][..], |at| &self.groups[at].1)
        };
        let own: Vec<&Server> = members(&place.group)
            .iter()
            .filter_map(|i| self.slots[*i].as_ref())
            .collect();
        let of_host = own.iter().filter(|s| s.place.host == place.host).count();
        let share = (self.max / GROUP_SHARE).max(MIN_PER_GROUP);
        let crowd: Vec<&Server> = if of_host >= MAX_PER_HOST && place.host.is_ip() {
            own.into_iter()
                .filter(|s| s.place.host == place.host)
                .collect()
        } else if own.len() >= share {
            own
        } else if self.index.len() >= self.max {
            let largest = self.groups.iter().max_by_key(|(_, members)| members.len());
            let members = largest.map_or(&[][..], |(_, members)| &members[..]);
            let large = members.len() > 1;
            let crowd = members.iter().filter_map(|i| self.slots[*i].as_ref());
            // Where all groups are small, only who is of no use gives way.
            crowd
                .filter(|s| large || s.memory.backed_off_until(now).is_some())
                .collect()
        } else {
            return true;
        };
        let least = crowd
            .into_iter()
            .filter(|server| self.busy.iter().all(|(peer, ..)| *peer != server.peer))
            .min_by_key(|server| server.memory.merit(now));
        let Some(peer) = least.map(|server| server.peer) else {
            return false;
        };
        self.forget(&peer);
        true
    }
}
