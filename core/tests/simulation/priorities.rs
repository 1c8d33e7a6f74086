//! What each priority may fill, as a model that shares no code with the machine.

use super::*;

impl World {
    /// What a request of this priority may find filled of a room.
    pub(super) fn share(&self, priority: Priority, room: u64) -> u64 {
        let percent = match priority {
            Priority::Low => self.shares.low_percent,
            Priority::Mid => self.shares.mid_percent,
            Priority::High => 100,
        };
        room * u64::from(percent) / 100
    }

    /// A record was submitted, with the priority of its request.
    pub(super) fn noise_came(&mut self, core: usize, output: usize, record: &Record) {
        let priority = self.cores[core].priorities[&request_of(record)];
        assert_eq!(
            record.ticket.priority(),
            priority,
            "a record has another priority than its request"
        );
        if priority == Priority::Low {
            let bytes = self.sizes[event_number(record) as usize];
            self.cores[core].noise[output].pending += bytes;
        }
    }

    /// A request of low priority that finds an output idle may be larger than the share.
    pub(super) fn noise_alone(
        &mut self,
        core: usize,
        placed: &[(u32, usize)],
        before: &[OutputTally],
    ) {
        for (output, noise) in self.cores[core].noise.iter_mut().enumerate() {
            if self.asking == Priority::Low && before[output].pending == 0 {
                let here = placed.iter().filter(|(_, at)| *at == output);
                let bytes = here.map(|(event, _)| self.sizes[*event as usize]).sum();
                noise.beyond_share = noise.beyond_share.max(bytes);
            }
        }
    }

    /// A core heard of its records.
    pub(super) fn noise_went(&mut self, core: usize, batch: &AckBatch) {
        let core = &mut self.cores[core];
        for settlement in &batch.settlements {
            let request = (settlement.request.slot, settlement.request.generation);
            if core.priorities[&request] == Priority::Low {
                core.noise[usize::from(settlement.output.0)].pending -= u64::from(settlement.bytes);
            }
        }
    }

    /// Whether an output has no room for so many bytes of high priority although low has no more than its share.
    pub(super) fn is_full_of_others(
        &self,
        core: usize,
        output: usize,
        bytes: u64,
        before: &OutputTally,
    ) -> bool {
        let noise = &self.cores[core].noise[output];
        let share = self.share(Priority::Low, self.rules[output].pending_bytes_max);
        let others = before.pending_bytes - noise.pending;
        others + bytes + share.max(noise.beyond_share) > before.capacity_bytes
    }
}

/// Records of low priority at one output of a core.
#[derive(Clone, Default)]
pub(super) struct Noise {
    /// Their bytes.
    pub(super) pending: u64,
    /// What may be there over their share: one request that found the output idle, and records that were moved.
    pub(super) beyond_share: u64,
}

fn request_of(record: &Record) -> (u32, u32) {
    let (_, request, _) = record.ticket.identity();
    (request.slot, request.generation)
}
