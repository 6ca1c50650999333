//! The bytes of a TensorBoard event file: TFRecord frames around protobuf messages.
//!
//! Of TensorFlow's `event.proto` and `summary.proto`, and `plugin_data.proto` of TensorBoard's HParams, this is what is needed (numbers
//! are field numbers):
//!
//! ```text
//! Event      { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
//! Summary    { repeated Value value = 1 }
//! Value      { string tag = 1; float simple_value = 2; Histogram histo = 5; Metadata metadata = 9 }
//! Histogram  { double min = 1, max = 2, num = 3, sum = 4, sum_squares = 5; repeated double bucket_limit = 6, bucket = 7 }
//! Metadata   { PluginData plugin_data = 1 }        PluginData { string plugin_name = 1; bytes content = 2 }
//! SessionLog { enum status = 1 (START = 1) }
//!
//! HParams    { SessionStart session_start_info = 3; SessionEnd session_end_info = 4 }, the content of plugin "hparams"
//! SessionStart { map<string, Setting> hparams = 1; double start_time_secs = 5 }, under the tag _hparams_/session_start_info
//! SessionEnd { enum status = 1 (SUCCESS = 1); double end_time_secs = 2 }, under the tag _hparams_/session_end_info
//! Setting    { double number_value = 2; string string_value = 3; bool bool_value = 4 }; an entry of a map { key = 1; value = 2 }
//! ```

use super::histogram::Histogram;

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
    /// distributions by tag
    Histograms(&'a [(String, Histogram)]),
    /// what the run was set to, by name
    Settings(&'a [(String, Setting)]),
    /// the run came to its end
    Success,
}

/// A hyperparameter as TensorBoard knows them.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// a number
    Number(f64),
    /// a name, or a list
    Text(String),
    /// on or off
    Switch(bool),
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
                tagged(tag, &fixed(2, &(*value as f32).to_le_bytes()))
            };
            bytes(5, &values.iter().flat_map(value).collect::<Vec<u8>>())
        }
        What::Histograms(histograms) => {
            let value = |(tag, h): &(String, Histogram)| tagged(tag, &bytes(5, &histogram(h)));
            bytes(5, &histograms.iter().flat_map(value).collect::<Vec<u8>>())
        }
        What::Settings(settings) => {
            let entry = |(name, setting): &(String, Setting)| {
                let value = match setting {
                    Setting::Number(number) => fixed(2, &number.to_le_bytes()),
                    Setting::Text(text) => bytes(3, text.as_bytes()),
                    Setting::Switch(on) => variable(4, u64::from(*on)),
                };
                bytes(1, &[bytes(1, name.as_bytes()), bytes(2, &value)].concat())
            };
            let mut start: Vec<u8> = settings.iter().flat_map(entry).collect();
            start.extend(fixed(5, &wall_time.to_le_bytes()));
            hyperparameters("_hparams_/session_start_info", &bytes(3, &start))
        }
        What::Success => {
            let end = [variable(1, 1), fixed(2, &wall_time.to_le_bytes())].concat();
            hyperparameters("_hparams_/session_end_info", &bytes(4, &end))
        }
    });
    message
}

/// A value of a summary.
fn tagged(tag: &str, content: &[u8]) -> Vec<u8> {
    bytes(1, &[&bytes(1, tag.as_bytes()), content].concat())
}

fn histogram(h: &Histogram) -> Vec<u8> {
    let single = [h.min, h.max, h.count, h.sum, h.sum_of_squares];
    let single = (1..).zip(single);
    let packed = |values: &[f64]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let mut message: Vec<u8> = single
        .flat_map(|(field, value)| fixed(field, &value.to_le_bytes()))
        .collect();
    message.extend(bytes(6, &packed(&h.limits)));
    message.extend(bytes(7, &packed(&h.counts)));
    message
}

/// A summary for the plugin of hyperparameters.
fn hyperparameters(tag: &str, content: &[u8]) -> Vec<u8> {
    let plugin = [bytes(1, b"hparams"), bytes(2, content)].concat();
    bytes(5, &tagged(tag, &bytes(9, &bytes(1, &plugin))))
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
