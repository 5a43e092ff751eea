//! Decompresses gzip files (RFC 1951, RFC 1952), with a limit of the size of the text.
//!
//! Memory is bounded by the window of the format, 32 KiB. The time is bounded by the sizes of both files.

use flate2::bufread::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

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
    // One octet more tells a text that is too long from one that ends at the limit.
    let mut text = MultiGzDecoder::new(input).take(limit.saturating_add(1));
    let size = io::copy(&mut text, output).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            io::Error::new(io::ErrorKind::InvalidData, format!("the gzip file is damaged: {error}"))
        }
        _ => error,
    })?;
    match size > limit {
        true => Err(io::Error::other(format!("the text has more than {} MiB", limit >> 20))),
        false => Ok(size),
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
