//! kubelet's registration call as it is on the wire in watcher mode: its `:authority` is the escaped path of the socket,
//! which no HTTP library of ours would send.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The value that kubelet sends for a socket.
pub fn authority(socket: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    socket.as_os_str().as_encoded_bytes().iter().map(|byte| escape(*byte)).collect()
}

/// Calls GetInfo twice on one connection and gives the frames that came back, by type and payload. The second call
/// names the authority by its place in the compression table.
pub async fn get_info(socket: &Path, authority: &str) -> io::Result<Vec<(u8, Vec<u8>)>> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // Static table: 3 is `:method: POST`, 6 `:scheme: http`, 4 `:path`, 1 `:authority`, 31 `content-type`.
    let mut first = vec![0x83, 0x86];
    for (name, value) in
        [(1_u8, authority), (4, "/pluginregistration.Registration/GetInfo"), (31, "application/grpc")]
    {
        first.push(0x40 | name);
        first.extend(text(value));
    }
    first.extend([&[0x40][..], &text("te"), &text("trailers")].concat());
    bytes.extend(frame(1, 4, 1, &first));
    bytes.extend(frame(0, 1, 1, &[0; 5]));
    // The newest entry of the dynamic table is 62.
    bytes.extend(frame(1, 4, 3, &[0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]));
    bytes.extend(frame(0, 1, 3, &[0; 5]));
    stream.write_all(&bytes).await?;
    let mut frames = Vec::new();
    let mut ended = 0;
    while ended < 2 {
        let mut head = [0; 9];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await;
        read.map_err(|_| io::Error::other(format!("no answer; so far {frames:?}")))??;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await?;
        // The end of a stream by headers (trailers) or by a reset.
        if (kind == 1 && flags & 1 == 1) || kind == 3 {
            ended += 1;
        }
        frames.push((kind, payload));
    }
    Ok(frames)
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A string of at most 126 bytes, or somewhat more, without Huffman coding.
fn text(value: &str) -> Vec<u8> {
    let length = value.len();
    let mut out = match u8::try_from(length) {
        Ok(short) if short < 127 => vec![short],
        Ok(_) | Err(_) => vec![127, u8::try_from(length.saturating_sub(127) & 0x7f).unwrap_or_default()],
    };
    out.extend_from_slice(value.as_bytes());
    out
}
