//! snappy: one raw block, which says its length.

use super::meter::{Fault, Meter};

pub(super) fn decompress(body: &[u8], meter: &Meter) -> Result<Vec<u8>, Fault> {
    let broken = |_| Fault::Broken;
    // The block says its length first, so that nothing is allocated for one over the limit.
    if snap::raw::decompress_len(body).map_err(broken)? > meter.output_max() {
        return Err(Fault::TooLarge);
    }
    let out = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(broken)?;
    meter.made(out.len())?;
    Ok(out)
}
