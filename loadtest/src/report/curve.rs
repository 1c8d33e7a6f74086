//! The percentile curve in a report's histogram: base64 of HdrHistogram's compressed V2 form.

use base64_simd::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Bytes of a histogram, not compressed, that are read. One to an hour with three digits in
/// nanoseconds takes 280 KB when no count is zero.
pub const HISTOGRAM_BYTES_MAX: u64 = 16 << 20;

/// First words of the compressed and the plain form (HdrHistogram's V2 encoding).
const COOKIE_COMPRESSED: u32 = 0x1c84_9314;
const COOKIE_PLAIN: u32 = 0x1c84_9313;

/// Bytes before the counts of the plain form.
const HEAD_BYTES: usize = 40;

/// Points on the curve for each halving of the remaining share.
const TICKS_PER_HALF: u32 = 8;

/// Points of a curve that are kept: 64 halvings.
const POINTS_MAX: usize = TICKS_PER_HALF as usize * 64;

/// A point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of requests that were at most this slow, 0 to 1.
    pub quantile: f64,
    /// Their latency in microseconds.
    pub us: f64,
}

/// Points of the curve, the maximum at quantile 1 last. The error is the reason.
pub(super) fn curve(base64: &str) -> Result<Vec<CurvePoint>, String> {
    Ok(points(&histogram(base64)?))
}

fn histogram(base64: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD
        .decode_to_vec(base64)
        .map_err(|_| "a histogram is no base64".to_owned())?;
    let (head, deflated) = bytes.split_first_chunk::<8>().ok_or("a histogram is cut")?;
    let [a, b, c, d, ..] = *head;
    if u32::from_be_bytes([a, b, c, d]) != COOKIE_COMPRESSED {
        return Err("a histogram is not in HdrHistogram's compressed V2 form".to_owned());
    }
    // Inflated here, since the crate would take the length of its counts on trust.
    let mut plain = Vec::new();
    ZlibDecoder::new(deflated)
        .take(HISTOGRAM_BYTES_MAX + 1)
        .read_to_end(&mut plain)
        .map_err(|error| format!("a histogram cannot be inflated: {error}"))?;
    if plain.len() as u64 > HISTOGRAM_BYTES_MAX {
        return Err(format!(
            "a histogram is larger than {HISTOGRAM_BYTES_MAX} bytes"
        ));
    }
    let (head, counts) = plain.split_first_chunk::<8>().ok_or("a histogram is cut")?;
    let [a, b, c, d, e, f, g, h] = *head;
    let length = u32::from_be_bytes([e, f, g, h]) as usize;
    if u32::from_be_bytes([a, b, c, d]) != COOKIE_PLAIN
        || length != counts.len().saturating_sub(HEAD_BYTES - head.len())
    {
        return Err("a histogram has a wrong head".to_owned());
    }
    Deserializer::new()
        .deserialize(&mut plain.as_slice())
        .map_err(|error| format!("a histogram cannot be read: {error}"))
}

fn points(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    let point = |quantile: f64, nanos: u64| CurvePoint {
        quantile,
        us: nanos as f64 / 1_000.0,
    };
    if histogram.is_empty() {
        return Vec::new();
    }
    let mut points: Vec<_> = histogram
        .iter_quantiles(TICKS_PER_HALF)
        .map(|step| point(step.quantile_iterated_to(), step.value_iterated_to()))
        .take_while(|point| point.quantile < 1.0)
        .take(POINTS_MAX)
        .collect();
    points.push(point(1.0, histogram.max()));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

    fn encoded(values: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut histogram = Histogram::<u64>::new_with_bounds(100, 3_600_000_000_000, 3).unwrap();
        values.for_each(|value| histogram.record(value).unwrap());
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&histogram, &mut bytes)
            .unwrap();
        bytes
    }

    fn base64(bytes: &[u8]) -> String {
        STANDARD.encode_to_string(bytes)
    }

    #[test]
    fn a_percentile_curve_ends_at_the_maximum() {
        // 1 to 10,000 us, each once: the latency at quantile q is q x 10 ms.
        let points = curve(&base64(&encoded((1..=10_000).map(|us| us * 1_000)))).unwrap();
        for point in &points {
            let us = point.quantile * 10_000.0;
            assert!((point.us - us).abs() <= us * 0.002 + 2.0, "{point:?}");
        }
        assert!(points.is_sorted_by(|a, b| a.quantile < b.quantile && a.us <= b.us));
        assert_eq!(points.last().unwrap().quantile, 1.0);
    }

    #[test]
    fn an_empty_histogram_has_no_curve() {
        assert_eq!(curve(&base64(&encoded(std::iter::empty()))), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_histogram_is_refused_by_its_fault() {
        let good = encoded(1_000..2_000);
        for (text, part) in [
            (String::new(), "cut"),
            ("%%%%".to_owned(), "no base64"),
            (base64(b"12345678901234567890"), "compressed V2"),
            (base64(&good[..good.len() / 2]), "cannot be inflated"),
        ] {
            let error = curve(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_histogram_that_lies_about_its_length_takes_no_memory() {
        let mut plain = COOKIE_PLAIN.to_be_bytes().to_vec();
        plain.extend(u32::MAX.to_be_bytes());
        plain.extend([0; HEAD_BYTES]);
        let deflated = deflate(&plain);
        assert!(curve(&deflated).unwrap_err().contains("wrong head"));
        let bomb = deflate(&vec![0; HISTOGRAM_BYTES_MAX as usize + 1]);
        assert!(curve(&bomb).unwrap_err().contains("larger than"));
    }

    #[test]
    fn damaged_histograms_never_panic() {
        let good = encoded((0..3_000).map(|n| n * n + 100));
        let mut plain = Vec::new();
        ZlibDecoder::new(&good[8..])
            .read_to_end(&mut plain)
            .unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let mut damaged = plain.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(8..damaged.len());
                damaged[at] = random.u8(..);
            }
            let _ = curve(&deflate(&damaged));
        }
    }

    fn deflate(plain: &[u8]) -> String {
        let mut bytes = COOKIE_COMPRESSED.to_be_bytes().to_vec();
        let mut deflated = Vec::new();
        flate2::read::ZlibEncoder::new(plain, flate2::Compression::fast())
            .read_to_end(&mut deflated)
            .unwrap();
        bytes.extend(u32::try_from(deflated.len()).unwrap().to_be_bytes());
        bytes.extend(deflated);
        base64(&bytes)
    }
}
