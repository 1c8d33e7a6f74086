//! Bodies that servers and tag managers send to an endpoint for single events: objects with an id,
//! a time and a user of their own.

use super::random::{log_normal, pick};
use super::template::{BACK_MS_MAX, Slot, Text, Value};
use crate::run::body::push_event;
use fastrand::Rng;

/// Events of a mouse in one request, 50 ms apart, and how many of them are one order.
const MOVE_MS: u32 = 50;
pub(super) const EVENTS_PER_ORDER: u32 = 300;

/// Appends the event of about 1 KB: timestamp, user, pixel, click, name, address, nested data.
pub(super) fn push_single(text: &mut Text, run: u32, rng: &mut Rng) {
    // Most are near 1 KB; the nested data differ by some words.
    let size = log_normal(rng, 1_000.0, 0.12, 700, 1_500);
    let slots = push_event(&mut text.text, size, run, rng);
    for (range, value) in [
        (slots.seq, Value::Seq(0)),
        (slots.timestamp, Value::TimeMs { back_ms: 0 }),
        (slots.user, Value::User),
    ] {
        text.slots.push(Slot {
            at: range.start,
            value,
        });
    }
}

const FLAT_TYPES: [(&str, u32); 5] = [
    ("page_view", 45),
    ("product_impression", 30),
    ("add_to_cart", 12),
    ("search", 9),
    ("order", 4),
];
/// Keys and their values.
const FLAT_PAIRS: [(&str, [&str; 3]); 12] = [
    (
        "page_url",
        [
            "https://shop.example/shoes/trail-running?color=red&size=44",
            "https://shop.example/cart",
            "https://shop.example/search?q=light+rain+jacket",
        ],
    ),
    ("page_title", ["Trail Running Shoes", "Cart", "Search"]),
    (
        "referrer",
        [
            "https://search.example/?q=running",
            "https://mail.example/",
            "",
        ],
    ),
    ("campaign", ["newsletter-2025-11-week-47", "brand", "none"]),
    ("medium", ["email", "organic", "cpc"]),
    ("source", ["newsletter", "search.example", "direct"]),
    (
        "category",
        ["Shoes/Running/Trail", "Jackets/Rain", "Offers"],
    ),
    (
        "brand",
        ["Example Sports", "North Example", "Example & Sons"],
    ),
    ("variant", ["red-44", "blue-42", "black-43"]),
    ("locale", ["de-DE", "en-GB", "fr-FR"]),
    ("device_type", ["mobile", "desktop", "tablet"]),
    ("experiment", ["control-group", "checkout-b", "search-c"]),
];

/// Smallest and largest object of string pairs, in bytes.
pub(super) const FLAT_BYTES_MIN: usize = 512;
pub(super) const FLAT_BYTES_MAX: usize = 4_096;

/// Appends an object of 0.5 to 4 KB that has nothing but pairs of strings.
pub(super) fn push_flat(text: &mut Text, run: u32, rng: &mut Rng) {
    let start = text.len();
    let size = log_normal(rng, 1_400.0, 0.6, FLAT_BYTES_MIN, FLAT_BYTES_MAX);
    let event_type = pick(rng, &FLAT_TYPES);
    text.push("{\"event_id\":\"");
    text.id(run, 0);
    text.format(format_args!(
        "\",\"event_type\":\"{event_type}\",\"timestamp\":\""
    ));
    text.slot(Value::TimeMs { back_ms: 0 });
    text.push("\",\"user_id\":\"u-");
    text.slot(Value::User);
    text.push("\",\"session_id\":\"u-");
    text.slot(Value::User);
    text.push("-");
    text.slot(Value::SessionStart);
    text.push("\"");
    let mut number = 0;
    loop {
        let (key, values) = &FLAT_PAIRS[number % FLAT_PAIRS.len()];
        let round = number / FLAT_PAIRS.len();
        let value = values[rng.usize(..values.len())];
        let pair = format!(",\"{key}_{round}\":\"{value}\"");
        let room = (start + size).saturating_sub(text.len() + 1);
        // One last pair fills the rest.
        const REST: &str = ",\"note\":\"\"";
        if pair.len() + REST.len() > room {
            let filler = room.saturating_sub(REST.len());
            text.push(",\"note\":\"");
            text.push(&"x".repeat(filler));
            text.push("\"}");
            return;
        }
        text.push(&pair);
        number += 1;
    }
}

/// Appends an array: where a visitor's mouse was, and now and then an order.
pub(super) fn push_firehose(text: &mut Text, count: u32, run: u32, rng: &mut Rng) {
    let (mut x, mut y) = (rng.i32(100..1_800), rng.i32(100..900));
    let page = rng.u32(..100_000);
    text.push("[");
    for index in 0..count {
        if index > 0 {
            text.push(",");
        }
        let order = rng.u32(..EVENTS_PER_ORDER) == 0;
        let name = if order { "order" } else { "mouse_move" };
        let back_ms = ((count - 1 - index) * MOVE_MS).min(BACK_MS_MAX);
        text.push("{\"event_id\":\"");
        text.id(run, index);
        text.push("\",\"timestamp\":");
        text.slot(Value::TimeMs { back_ms });
        text.format(format_args!(",\"event_name\":\"{name}\",\"user_id\":\"u-"));
        text.slot(Value::User);
        text.push("\",\"session_id\":\"u-");
        text.slot(Value::User);
        text.push("-");
        text.slot(Value::SessionStart);
        if order {
            text.format(format_args!(
                "\",\"order_id\":\"o-{:08x}\",\"currency\":\"EUR\",\"total\":{}.{:02},\
                 \"items\":[{{\"sku\":\"SKU-{:06}\",\"quantity\":{}}}]}}",
                rng.u32(..),
                rng.u32(5..500),
                rng.u32(..100),
                rng.u32(..1_000_000),
                rng.u32(1..4)
            ));
        } else {
            x = (x + rng.i32(-40..=40)).clamp(0, 1_919);
            y = (y + rng.i32(-40..=40)).clamp(0, 1_079);
            text.format(format_args!(
                "\",\"page\":\"/products/{page}\",\"x\":{x},\"y\":{y}}}"
            ));
        }
    }
    text.push("]");
}
