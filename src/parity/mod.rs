//! Replays golden files against a backend.
