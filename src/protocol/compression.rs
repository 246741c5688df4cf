//! Records out of a compressed batch, never more than the caller allows, and into one.
//!
//! The broker passes compressed batches on untouched; it looks inside only where it must (a record's timestamp for
//! ListOffsets, keys for compaction, `corelane.validation=full`). Decompressing takes longer than a shard may be
//! busy: callers above a few KiB do it on the blocking pool.
//!
//! The `kafka-protocol` crate can decompress too, but without a bound on what comes out, so the codecs are used
//! directly. Their formats as Kafka's clients write them: gzip members; snappy in xerial's framing, or raw;
//! an lz4 frame; a zstd frame.

use std::io::{Read, Write as _};

use bytes::Bytes;

use super::batch::{Codec, Error};

/// Decompresses the bytes behind a batch header.
///
/// More than `limit` bytes: `DecompressedTooLarge`. Memory beyond the output: gzip and lz4 a fixed few hundred KiB
/// to 8 MiB as the frame's block size says, zstd its window, at most the larger of 8 MiB and `limit`.
pub fn decompress(codec: Codec, compressed: &[u8], limit: usize) -> Result<Bytes, Error> {
    match codec {
        Codec::None if compressed.len() > limit => Err(Error::DecompressedTooLarge),
        Codec::None => Ok(Bytes::copy_from_slice(compressed)),
        Codec::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(compressed), limit),
        Codec::Snappy => snappy(compressed, limit),
        Codec::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(compressed), limit),
        Codec::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(compressed).map_err(|_| Error::Compression)?;
            decoder.window_log_max(zstd_window_log_max(limit)).map_err(|_| Error::Compression)?;
            read_all(decoder, limit)
        }
    }
}

/// A codec, and how hard it tries. The levels are Kafka's (compression.gzip.level and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    /// 1 to 9, -1 for the codec's own default.
    Gzip {
        level: i32,
    },
    Snappy,
    /// 1 to 17; Kafka's default 9 means the fast compressor, every other level the one that takes its time.
    Lz4 {
        level: i32,
    },
    /// Up to 22; negative ones are faster and compress less.
    Zstd {
        level: i32,
    },
}

const LZ4_DEFAULT_LEVEL: i32 = 9;

impl Packing {
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Packing::None => Codec::None,
            Packing::Gzip { .. } => Codec::Gzip,
            Packing::Snappy => Codec::Snappy,
            Packing::Lz4 { .. } => Codec::Lz4,
            Packing::Zstd { .. } => Codec::Zstd,
        }
    }
}

/// At Kafka's default level.
impl From<Codec> for Packing {
    fn from(codec: Codec) -> Packing {
        match codec {
            Codec::None => Packing::None,
            Codec::Gzip => Packing::Gzip { level: -1 },
            Codec::Snappy => Packing::Snappy,
            Codec::Lz4 => Packing::Lz4 { level: LZ4_DEFAULT_LEVEL },
            Codec::Zstd => Packing::Zstd { level: zstd::DEFAULT_COMPRESSION_LEVEL },
        }
    }
}

/// Compresses records as Kafka's Java clients do, so that every client can read them: snappy in xerial's framing, lz4
/// in a frame of independent blocks of 64 KiB. `None` where the codec fails.
#[must_use]
pub fn compress(packing: Packing, records: &[u8]) -> Option<Vec<u8>> {
    match packing {
        Packing::None => Some(records.to_vec()),
        Packing::Gzip { level } => {
            let level = u32::try_from(level).map_or_else(|_| flate2::Compression::default(), gzip_level);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records).ok()?;
            encoder.finish().ok()
        }
        Packing::Snappy => xerial(records),
        Packing::Lz4 { level: LZ4_DEFAULT_LEVEL } => {
            let mut frame = lz4_flex::frame::FrameInfo::new();
            frame.block_mode = lz4_flex::frame::BlockMode::Independent;
            frame.block_size = lz4_flex::frame::BlockSize::Max64KB;
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(records).ok()?;
            encoder.finish().ok()
        }
        Packing::Lz4 { level } => {
            let mut encoder = lz4::EncoderBuilder::new()
                .level(u32::try_from(level).unwrap_or(0))
                .block_size(lz4::BlockSize::Max64KB)
                .block_mode(lz4::BlockMode::Independent)
                .checksum(lz4::ContentChecksum::NoChecksum)
                .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
                .build(Vec::new())
                .ok()?;
            encoder.write_all(records).ok()?;
            let (packed, result) = encoder.finish();
            result.ok().map(|()| packed)
        }
        // in one go: the codec knows the size, and takes no more memory than that needs, whatever the level
        Packing::Zstd { level } => zstd::bulk::compress(records, level).ok(),
    }
}

fn gzip_level(level: u32) -> flate2::Compression {
    flate2::Compression::new(level.clamp(1, 9))
}

fn read_all(decoder: impl Read, limit: usize) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    // one byte more than allowed, to tell "just fits" from "too large"
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|_| Error::Compression)?;
    if out.len() > limit {
        return Err(Error::DecompressedTooLarge);
    }
    Ok(Bytes::from(out))
}

/// A stream's window is allocated before the first byte comes out. Clients' levels up to 19 use 8 MiB whatever
/// they compress; more only where the caller expects more.
fn zstd_window_log_max(limit: usize) -> u32 {
    limit.checked_ilog2().unwrap_or(0).clamp(23, 27)
}

/// Xerial's header: these eight bytes, its version and the lowest compatible one, both `i32`.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// Version and lowest compatible version, both 1.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What snappy-java takes for a block.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

fn xerial(records: &[u8]) -> Option<Vec<u8>> {
    let mut out = [XERIAL_MAGIC.as_slice(), &XERIAL_VERSIONS].concat();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).ok()?;
        out.extend_from_slice(&i32::try_from(compressed.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Some(out)
}

fn snappy(compressed: &[u8], limit: usize) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    let mut decoder = snap::raw::Decoder::new();
    if !compressed.starts_with(XERIAL_MAGIC) {
        append_snappy_block(&mut decoder, compressed, &mut out, limit)?;
        return Ok(Bytes::from(out));
    }
    let mut rest = compressed.get(XERIAL_HEADER_BYTES..).ok_or(Error::Compression)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(Error::Compression)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| Error::Compression)?;
        let (block, behind) = behind.split_at_checked(length).ok_or(Error::Compression)?;
        append_snappy_block(&mut decoder, block, &mut out, limit)?;
        rest = behind;
    }
    Ok(Bytes::from(out))
}

/// A block says its length in front; snappy itself cannot give more than 64 bytes for three.
fn append_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Error> {
    let length = snap::raw::decompress_len(block).map_err(|_| Error::Compression)?;
    if length > limit - out.len() {
        return Err(Error::DecompressedTooLarge);
    }
    if length / 32 > block.len() {
        return Err(Error::Compression);
    }
    let start = out.len();
    out.resize(start + length, 0);
    decoder.decompress(block, &mut out[start..]).map_err(|_| Error::Compression)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::{Compression, RecordBatchDecoder};

    use super::*;
    use crate::protocol::batch::{self, BatchHeader, HEADER_BYTES};
    use crate::protocol::records;
    use crate::protocol::test_batch::{self, Spec};

    const CODECS: [(Codec, Compression); 5] = [
        (Codec::None, Compression::None),
        (Codec::Gzip, Compression::Gzip),
        (Codec::Snappy, Compression::Snappy),
        (Codec::Lz4, Compression::Lz4),
        (Codec::Zstd, Compression::Zstd),
    ];

    #[test]
    fn every_codec_gives_back_the_records() {
        for records in [1, 2000] {
            let spec = Spec { records, value_bytes: 200, ..Default::default() };
            let plain = test_batch::encode(&spec);
            for (codec, compression) in CODECS {
                let batch = test_batch::encode(&Spec { compression, ..spec });
                let header = BatchHeader::parse(&batch).unwrap();
                assert_eq!(header.codec(), Some(codec));
                let decompressed = decompress(codec, &batch[HEADER_BYTES..], plain.len()).unwrap();
                assert_eq!(decompressed, plain[HEADER_BYTES..], "{codec:?}");
                records::walk(&header, &decompressed).unwrap();
            }
        }
    }

    /// The crate's own decoder is the second opinion on what we compress.
    #[test]
    fn what_is_compressed_here_is_read_by_others() {
        for records in [1, 3000] {
            let spec = Spec { records, value_bytes: 200, ..Default::default() };
            let plain = test_batch::encode(&spec);
            for (codec, compression) in CODECS {
                let packed = compress(codec.into(), &plain[HEADER_BYTES..]).unwrap();
                assert_eq!(
                    decompress(codec, &packed, plain.len()).unwrap(),
                    plain[HEADER_BYTES..],
                    "{codec:?}"
                );
                let batch = test_batch::encode(&Spec { compression, ..spec });
                let header = BatchHeader::parse(&batch).unwrap();
                let change = batch::Rewritten {
                    delete_horizon: None,
                    max_timestamp: header.max_timestamp,
                    record_count: header.record_count,
                };
                let ours = batch::with_records(&batch, &change, &packed).unwrap();
                let read = RecordBatchDecoder::decode_all(&mut Bytes::from(ours)).unwrap();
                let read: Vec<_> = read.into_iter().flat_map(|set| set.records).collect();
                assert_eq!(read, test_batch::records(&spec), "{codec:?}");
            }
        }
        assert!(decompress(Codec::Snappy, &compress(Packing::Snappy, b"").unwrap(), 10).unwrap().is_empty());
    }

    #[test]
    fn every_level_is_read_back_and_some_compress_better() {
        let text: Vec<u8> =
            (0..6000_u32).flat_map(|i| format!("{} of {};", i * i % 977, i % 31).into_bytes()).collect();
        let size = |packing: Packing| {
            let packed = compress(packing, &text).unwrap();
            assert_eq!(decompress(packing.codec(), &packed, text.len()).unwrap(), text, "{packing:?}");
            packed.len()
        };
        let gzip: Vec<_> = (1..=9).map(|level| size(Packing::Gzip { level })).collect();
        let lz4: Vec<_> = (1..=17).map(|level| size(Packing::Lz4 { level })).collect();
        let zstd = [-131_072, -5, 1, 3, 12, 19, 22].map(|level| size(Packing::Zstd { level }));
        assert!(gzip[8] < gzip[0] && lz4[11] < lz4[8] && zstd[5] < zstd[1], "{gzip:?} {lz4:?} {zstd:?}");
        assert_eq!(size(Packing::Gzip { level: -1 }), gzip[5]);
    }

    #[test]
    fn the_limit_holds_to_the_byte() {
        let plain = test_batch::encode(&Spec { records: 500, value_bytes: 500, ..Default::default() });
        let size = plain.len() - HEADER_BYTES;
        for (codec, compression) in CODECS {
            let spec = Spec { records: 500, value_bytes: 500, compression, ..Default::default() };
            let batch = test_batch::encode(&spec);
            let compressed = &batch[HEADER_BYTES..];
            assert_eq!(decompress(codec, compressed, size).map(|out| out.len()), Ok(size), "{codec:?}");
            for limit in [size - 1, 1000, 0] {
                assert_eq!(
                    decompress(codec, compressed, limit),
                    Err(Error::DecompressedTooLarge),
                    "{codec:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_another_format_is_an_error() {
        let spec = Spec { records: 50, value_bytes: 50, ..Default::default() };
        for (codec, compression) in CODECS.into_iter().skip(1) {
            let batch = test_batch::encode(&Spec { compression, ..spec });
            let compressed = &batch[HEADER_BYTES..];
            let plain = decompress(codec, compressed, 1 << 20).unwrap();
            for cut in [1, 5, compressed.len() / 2, compressed.len() - 6] {
                // lz4 takes a missing end mark for the end; what comes out is never anything else
                if let Ok(out) = decompress(codec, &compressed[..cut], 1 << 20) {
                    assert!(codec == Codec::Lz4 && plain.starts_with(&out), "{codec:?} cut at {cut}");
                }
            }
            assert_eq!(decompress(codec, &[0x55; 40], 1 << 20), Err(Error::Compression), "{codec:?}");
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let text = b"no framing, as older clients of other languages send it; no framing at all";
        let raw = snap::raw::Encoder::new().compress_vec(text).unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, 100).unwrap(), text[..]);
    }

    #[test]
    fn snappy_lengths_are_not_believed() {
        // a block of five bytes that says it holds 4 GiB, or a megabyte
        for (claim, limit) in [(&[0xff, 0xff, 0xff, 0xff, 0x0f][..], 1 << 20), (&[0x80, 0x80, 0x40], 1 << 30)]
        {
            let error = decompress(Codec::Snappy, claim, limit).unwrap_err();
            assert!(matches!(error, Error::DecompressedTooLarge | Error::Compression));
            let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            framed.extend((claim.len() as u32).to_be_bytes());
            framed.extend(claim);
            assert_eq!(decompress(Codec::Snappy, &framed, limit), Err(error));
        }
        let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        framed.extend(u32::MAX.to_be_bytes());
        assert_eq!(decompress(Codec::Snappy, &framed, 1 << 20), Err(Error::Compression));
        assert_eq!(decompress(Codec::Snappy, b"\x82SNAPPY\0\0", 1 << 20), Err(Error::Compression));
    }

    #[test]
    fn gzip_members_follow_each_other() {
        let member = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let both = [member(b"one "), member(b"two")].concat();
        assert_eq!(decompress(Codec::Gzip, &both, 100).unwrap(), b"one two"[..]);
    }

    #[test]
    fn a_zstd_window_larger_than_anyone_needs_is_refused() {
        let compress = |window_log| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(&[7; 1000]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(decompress(Codec::Zstd, &compress(23), 1000).unwrap().len(), 1000);
        assert_eq!(decompress(Codec::Zstd, &compress(26), 1000), Err(Error::Compression));
        assert_eq!(decompress(Codec::Zstd, &compress(26), 1 << 26).unwrap().len(), 1000);
    }
}
