//! The bytes of a TensorBoard event file: TFRecord frames around protobuf messages.
//!
//! Of TensorFlow's `event.proto` and `summary.proto` this is what scalars need (numbers are field numbers):
//!
//! ```text
//! Event      { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
//! Summary    { repeated Value value = 1 }          Value { string tag = 1; float simple_value = 2 }
//! SessionLog { enum status = 1 (START = 1) }
//! ```

/// Must be the first event of every file.
const FILE_VERSION: &str = "brain.Event:2";

/// What an event says.
pub enum What<'a> {
    /// how the file is to be read
    FileVersion,
    /// a session begins: what another one wrote for this step and beyond does not count
    Start,
    /// values by tag
    Scalars(&'a [(String, f64)]),
}

/// The frame of an event: length (u64), its checksum, the message, its checksum; all little-endian.
///
/// `wall_time` is in seconds since 1970.
pub fn frame(wall_time: f64, step: usize, what: &What) -> Vec<u8> {
    let message = event(wall_time, step, what);
    let length = (message.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_crc(&length).to_le_bytes(),
        &message,
        &masked_crc(&message).to_le_bytes(),
    ]
    .concat()
}

/// CRC-32C, rotated right by 15 bits, plus a constant: a checksum of data that holds checksums is no fixed point then.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn event(wall_time: f64, step: usize, what: &What) -> Vec<u8> {
    let mut message = fixed(1, &wall_time.to_le_bytes());
    if step > 0 {
        // As protobuf does: a field of value 0 is left out.
        message.extend(variable(2, step as u64));
    }
    message.extend(match what {
        What::FileVersion => bytes(3, FILE_VERSION.as_bytes()),
        What::Start => bytes(7, &variable(1, 1)),
        What::Scalars(values) => {
            let value = |(tag, value): &(String, f64)| {
                let content = [
                    bytes(1, tag.as_bytes()),
                    fixed(2, &(*value as f32).to_le_bytes()),
                ];
                bytes(1, &content.concat())
            };
            bytes(5, &values.iter().flat_map(value).collect::<Vec<u8>>())
        }
    });
    message
}

/// A field of 8 or 4 bytes, whose wire type is 1 or 5.
fn fixed(field: u64, value: &[u8]) -> Vec<u8> {
    let wire_type = if value.len() == 8 { 1 } else { 5 };
    [&varint(field << 3 | wire_type)[..], value].concat()
}

/// A whole number.
fn variable(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A text or a message.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [
        &varint(field << 3 | 2)[..],
        &varint(value.len() as u64),
        value,
    ]
    .concat()
}

/// Seven bits per byte, the lowest first; the top bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
