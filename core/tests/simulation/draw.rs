//! What a seed draws of a world.

use super::*;

/// Draws which output stands in for which, and which of them are a group.
pub(super) fn stand_ins(random: &mut Rng, outputs: u16) -> (Vec<Option<OutputId>>, Vec<GroupRule>) {
    let mut fallbacks = vec![None; usize::from(outputs)];
    let mut groups = Vec::new();
    let spread = match random.u8(0..4) {
        0 => Some(Spread::Hash),
        1 => Some(Spread::LeastLoaded),
        _ => None,
    };
    if let Some(spread) = spread.filter(|_| outputs > 1) {
        let members = (0..2).map(|at| (OutputId(at), member_number(&at.to_string())));
        groups.push(GroupRule {
            members: members.collect(),
            spread,
            is_default: true,
        });
        if outputs > 2 && random.bool() {
            fallbacks[usize::from(random.bool())] = Some(OutputId(2));
        }
    } else if outputs > 1 && random.bool() {
        fallbacks[0] = Some(OutputId(1));
        if outputs > 2 && random.bool() {
            fallbacks[1] = Some(OutputId(2));
        }
    }
    (fallbacks, groups)
}

pub(super) fn has(group: &GroupRule, output: usize) -> bool {
    group
        .members
        .iter()
        .any(|(id, _)| usize::from(id.0) == output)
}

/// One of the outputs or groups that events go to, with a promise of its own.
pub(super) fn routing(random: &mut Rng, entries: &[usize]) -> Routing {
    let entry = OutputId(entries[random.usize(0..entries.len())] as u16);
    let class = random.choice([
        None,
        Some(DeliveryClass::Required),
        Some(DeliveryClass::Durable),
        Some(DeliveryClass::BestEffort),
    ]);
    let route = Route {
        class: class.flatten(),
        ..Route::default()
    };
    Routing {
        outputs: OutputSet::NONE.with(entry),
        routes: vec![(entry, route)],
    }
}

/// The output or group that letters go to.
pub(super) fn letter_routing(random: &mut Rng, entries: &[usize], class: DeliveryClass) -> Routing {
    let mut routing = routing(random, entries);
    for (_, route) in &mut routing.routes {
        route.class = Some(class);
    }
    routing
}

/// Half of the worlds have no priorities.
pub(super) fn shares(random: &mut Rng) -> Shares {
    match random.bool() {
        true => Shares::WHOLE,
        false => {
            let low_percent = random.u8(10..=80);
            Shares {
                low_percent,
                mid_percent: random.u8(low_percent..=100),
            }
        }
    }
}

/// The priority that rules give to a request, and whether nobody sends it again.
pub(super) fn priority(random: &mut Rng) -> (Priority, bool) {
    let priority = match random.u8(0..6) {
        0 | 1 => Priority::Mid,
        2 | 3 => Priority::Low,
        _ => Priority::High,
    };
    (priority, random.u8(0..6) == 0)
}

/// The priority that counts.
pub(super) fn counting(priority: Priority, is_unrepeatable: bool) -> Priority {
    match (priority, is_unrepeatable) {
        (priority, false) => priority,
        (Priority::Low, true) => Priority::Mid,
        (_, true) => Priority::High,
    }
}
