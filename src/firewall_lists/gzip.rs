//! Decompresses gzip files (RFC 1951, RFC 1952), with a limit of the size of the text.
//!
//! Memory is bounded by the window of the format, 32 KiB. The time is bounded by the sizes of both files.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

/// The window: how far a repetition can reach back, in octets.
const WINDOW: usize = 32 << 10;
/// The text that is collected before it is written, in octets, beside the window.
const PENDING: usize = 64 << 10;
/// The longest code of a symbol, in bits.
const MAX_BITS: usize = 15;
/// Codes of at most this length are found in one step.
const FAST_BITS: u32 = 9;
/// The octets that a gzip file begins with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether a file that begins with these octets is a gzip file.
fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// Replaces a gzip file by its text, which has at most `limit` octets. Does nothing to another file.
///
/// # Errors
///
/// As [`decompress`]. The file then stays as it is.
pub fn unpack(path: &Path, limit: u64) -> io::Result<()> {
    let mut input = BufReader::new(File::open(path)?);
    if !is_gzip(input.fill_buf()?) {
        return Ok(());
    }
    let draft = path.with_extension("unpacked");
    let unpacked = (|| {
        let mut output = BufWriter::new(File::create(&draft)?);
        decompress(&mut input, &mut output, limit)?;
        output.into_inner()?.sync_all()?;
        fs::rename(&draft, path)
    })();
    if unpacked.is_err() {
        let _ = fs::remove_file(draft);
    }
    unpacked
}

/// Decompresses all members of a gzip file. Returns the size of the text, in octets.
///
/// # Errors
///
/// If the file is damaged or not complete, if the text has more than `limit` octets, or those of input and output.
fn decompress(input: &mut dyn BufRead, output: &mut dyn Write, limit: u64) -> io::Result<u64> {
    let mut total = 0;
    loop {
        read_header(input)?;
        let mut bits = Bits { input, bits: 0, count: 0 };
        let mut text = Text {
            octets: Vec::with_capacity(WINDOW + PENDING),
            written: 0,
            output,
            crc: !0,
            size: 0,
            limit: limit - total,
        };
        inflate(&mut bits, &mut text)?;
        bits.align();
        let (crc, size) = (bits.take(32)?, bits.take(32)?);
        let (found_crc, found_size) = text.finish()?;
        if crc != found_crc || size != found_size as u32 {
            return Err(damaged("its checksum differs"));
        }
        total += found_size;
        if input.fill_buf()?.is_empty() {
            return Ok(total);
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the gzip file is damaged: {what}"))
}

fn read_header(input: &mut dyn BufRead) -> io::Result<()> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let mut header = [0; 10];
    input.read_exact(&mut header)?;
    if header[..2] != MAGIC || header[2] != 8 {
        return Err(damaged("it has another format"));
    }
    let flags = header[3];
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        input.read_exact(&mut length)?;
        let mut extra = vec![0; u16::from_le_bytes(length).into()];
        input.read_exact(&mut extra)?;
    }
    for flag in [NAME, COMMENT] {
        let mut octet = [1];
        while flags & flag != 0 && octet != [0] {
            input.read_exact(&mut octet)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        input.read_exact(&mut [0; 2])?;
    }
    Ok(())
}

/// The input, bit by bit.
struct Bits<'i> {
    input: &'i mut dyn BufRead,
    bits: u64,
    count: u32,
}

impl Bits<'_> {
    /// Makes `count` bits available, or all that are left if there are fewer.
    fn fill(&mut self, count: u32) -> io::Result<()> {
        while self.count < count {
            let Some(&octet) = self.input.fill_buf()?.first() else { return Ok(()) };
            self.input.consume(1);
            self.bits |= u64::from(octet) << self.count;
            self.count += 8;
        }
        Ok(())
    }

    fn take(&mut self, count: u32) -> io::Result<u32> {
        self.fill(count)?;
        if self.count < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let value = self.bits & ((1 << count) - 1);
        self.bits >>= count;
        self.count -= count;
        Ok(value as u32)
    }

    /// Drops the bits up to the next octet.
    fn align(&mut self) {
        let rest = self.count % 8;
        self.bits >>= rest;
        self.count -= rest;
    }
}

/// The text that is made.
struct Text<'o> {
    /// The window, and what was not written yet.
    octets: Vec<u8>,
    /// The number of these octets that were written.
    written: usize,
    output: &'o mut dyn Write,
    crc: u32,
    size: u64,
    limit: u64,
}

impl Text<'_> {
    fn push(&mut self, octet: u8) -> io::Result<()> {
        if self.octets.len() == WINDOW + PENDING {
            self.write()?;
        }
        self.octets.push(octet);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let new = &self.octets[self.written..];
        self.size += new.len() as u64;
        if self.size > self.limit {
            return Err(io::Error::other(format!("the text has more than {} MiB", self.limit >> 20)));
        }
        for octet in new {
            self.crc = CRC[usize::from(self.crc as u8 ^ octet)] ^ (self.crc >> 8);
        }
        self.output.write_all(new)?;
        let excess = self.octets.len().saturating_sub(WINDOW);
        self.octets.drain(..excess);
        self.written = self.octets.len();
        Ok(())
    }

    fn repeat(&mut self, distance: usize, length: usize) -> io::Result<()> {
        for _ in 0..length {
            let at = self.octets.len().checked_sub(distance).ok_or_else(|| damaged("a repetition of nothing"))?;
            self.push(self.octets[at])?;
        }
        Ok(())
    }

    /// The checksum and the size.
    fn finish(&mut self) -> io::Result<(u32, u64)> {
        self.write()?;
        Ok((!self.crc, self.size))
    }
}

/// The checksums of the octets, as RFC 1952, section 8, has them.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let (mut crc, mut bit) = (octet as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[octet] = crc;
        octet += 1;
    }
    table
};

/// A Huffman code (RFC 1951, section 3.2.2).
struct Code {
    /// By the next bits: symbol and length, or length 0.
    fast: Vec<(u16, u8)>,
    /// The number of symbols with each length.
    counts: [u16; MAX_BITS + 1],
    /// The symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> io::Result<Code> {
        let mut counts = [0u16; MAX_BITS + 1];
        lengths.iter().for_each(|&length| counts[usize::from(length)] += 1);
        counts[0] = 0;
        let mut left = 1i32;
        for &count in &counts[1..] {
            left = (left << 1) - i32::from(count);
            if left < 0 {
                return Err(damaged("a code is not possible"));
            }
        }
        let mut offsets = [0u16; MAX_BITS + 2];
        let mut first = [0u32; MAX_BITS + 2];
        for length in 1..=MAX_BITS {
            offsets[length + 1] = offsets[length] + counts[length];
            first[length + 1] = (first[length] + u32::from(counts[length])) << 1;
        }
        let mut symbols = vec![0; usize::from(offsets[MAX_BITS + 1])];
        let mut fast = vec![(0, 0); 1 << FAST_BITS];
        let mut next = first;
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let at = usize::from(length);
            symbols[usize::from(offsets[at])] = symbol as u16;
            offsets[at] += 1;
            let code = next[at];
            next[at] += 1;
            if u32::from(length) <= FAST_BITS {
                // Codes are sent from their highest bit on.
                let reversed = code.reverse_bits() >> (32 - u32::from(length));
                let step = 1 << length;
                for slot in (reversed as usize..1 << FAST_BITS).step_by(step) {
                    fast[slot] = (symbol as u16, length);
                }
            }
        }
        Ok(Code { fast, counts, symbols })
    }

    fn symbol(&self, bits: &mut Bits) -> io::Result<u16> {
        bits.fill(MAX_BITS as u32)?;
        let (symbol, length) = self.fast[(bits.bits & ((1 << FAST_BITS) - 1)) as usize];
        if length > 0 && u32::from(length) <= bits.count {
            bits.take(length.into())?;
            return Ok(symbol);
        }
        let (mut code, mut first, mut index) = (0i32, 0i32, 0i32);
        for length in 1..=MAX_BITS {
            code |= bits.take(1)? as i32;
            let count = i32::from(self.counts[length]);
            if code - count < first {
                let at = usize::try_from(index + code - first).ok();
                return at.and_then(|at| self.symbols.get(at)).copied().ok_or_else(|| damaged("an unknown code"));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(damaged("an unknown code"))
    }
}

/// Base and extra bits of the lengths of repetitions (RFC 1951, section 3.2.5).
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// Base and extra bits of the distances of repetitions.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

fn inflate(bits: &mut Bits, text: &mut Text) -> io::Result<()> {
    loop {
        let is_last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(bits, text)?,
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                block(bits, text, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = read_codes(bits)?;
                block(bits, text, &literals, &distances)?;
            }
            _ => return Err(damaged("an unknown kind of block")),
        }
        if is_last {
            return Ok(());
        }
    }
}

fn stored(bits: &mut Bits, text: &mut Text) -> io::Result<()> {
    bits.align();
    let (length, inverse) = (bits.take(16)?, bits.take(16)?);
    if length ^ inverse != 0xffff {
        return Err(damaged("the length of a block"));
    }
    for _ in 0..length {
        text.push(bits.take(8)? as u8)?;
    }
    Ok(())
}

/// Reads the codes of a block (RFC 1951, section 3.2.7).
fn read_codes(bits: &mut Bits) -> io::Result<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances) = (bits.take(5)? as usize + 257, bits.take(5)? as usize + 1);
    let count = bits.take(4)? as usize + 4;
    let mut lengths = [0; 19];
    for at in &ORDER[..count] {
        lengths[*at] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let (length, times) = match code.symbol(bits)? {
            16 => (*lengths.last().ok_or_else(|| damaged("a repetition of nothing"))?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times as usize));
    }
    if lengths.len() > literals + distances {
        return Err(damaged("too many lengths"));
    }
    Ok((Code::new(&lengths[..literals])?, Code::new(&lengths[literals..])?))
}

fn block(bits: &mut Bits, text: &mut Text, literals: &Code, distances: &Code) -> io::Result<()> {
    loop {
        match literals.symbol(bits)? {
            octet @ 0..=255 => text.push(octet as u8)?,
            256 => return Ok(()),
            symbol => {
                let length = LENGTHS.get(usize::from(symbol - 257)).ok_or_else(|| damaged("an unknown length"))?;
                let length = usize::from(length.0) + bits.take(length.1.into())? as usize;
                let distance = DISTANCES.get(usize::from(distances.symbol(bits)?));
                let distance = distance.ok_or_else(|| damaged("an unknown distance"))?;
                let distance = usize::from(distance.0) + bits.take(distance.1.into())? as usize;
                text.repeat(distance, length)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::{
        fmt::Write as _,
        process::{Command, Stdio},
        sync::LazyLock,
    };

    /// Compresses with the program gzip.
    fn compress(text: &[u8], level: &str) -> Vec<u8> {
        let mut gzip =
            Command::new("gzip").args(["-c", level]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, text) = (gzip.stdin.take().unwrap(), text.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&text));
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        output.stdout
    }

    fn expand(octets: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let size = decompress(&mut &*octets, &mut text, limit)?;
        assert_eq!(size, text.len() as u64);
        Ok(text)
    }

    #[test]
    fn reads_what_gzip_writes() {
        let names = (0..20_000u32).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "n{}.example{}", n.wrapping_mul(2_654_435_761), n % 7);
            text
        });
        let random: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for text in [&b""[..], b"a", names.as_bytes(), &random, &[b'x'; 300_000]] {
            for level in ["-1", "-9"] {
                let file = compress(text, level);
                assert!(is_gzip(&file));
                assert!(expand(&file, 1 << 30).unwrap() == text);
                // Two members are one text.
                assert!(expand(&[&file[..], &file].concat(), 1 << 30).unwrap() == [text, text].concat());
            }
        }
    }

    #[test]
    fn bounds_the_text_and_refuses_damaged_files() {
        let file = compress(&vec![b'x'; 10 << 20], "-9");
        assert!(file.len() < 20_000);
        let error = expand(&file, 1 << 20).unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        let file = compress(b"bad.example\nworse.example\n", "-9");
        for len in 0..file.len() {
            assert!(expand(&file[..len], 1 << 20).is_err(), "{len}");
        }
        let mut other = file.clone();
        let at = other.len() - 5;
        other[at] ^= 1;
        assert!(expand(&other, 1 << 20).unwrap_err().to_string().contains("checksum"));
    }

    proptest! {
        #[test]
        fn takes_any_octets(octets in vec(any::<u8>(), 0..300), at in 0..40usize, octet in any::<u8>()) {
            let _ = expand(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &octets].concat(), 1 << 16);
            static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| compress(b"bad.example\nworse.example\nbad.example\n", "-9"));
            let mut file = FILE.clone();
            let at = at % file.len();
            file[at] = octet;
            let _ = expand(&file, 1 << 16);
        }
    }
}
