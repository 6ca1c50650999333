//! Who has come to an exchange, as rank 0 sees it: NCCL does not tell whom it waits for.
//!
//! A rank says one byte to rank 0, over the connection that they met by, whenever it comes to an exchange. All ranks come to the same
//! exchanges in the same order, so whoever has come to fewer of them than rank 0 is waited for.

use super::ranks::Awaited;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// This rank's end of the connections.
#[derive(Debug)]
pub enum Attendance {
    /// of rank 0: how many exchanges each rank has come to, itself first
    First(Arc<Vec<AtomicU64>>),
    /// of every other rank
    Other(TcpStream),
}

impl Attendance {
    /// Of rank 0, with the connections of all others, rank 1 first.
    pub fn of_first(others: Vec<TcpStream>) -> Self {
        let counts: Vec<AtomicU64> = (0..=others.len()).map(|_| AtomicU64::new(0)).collect();
        let counts = Arc::new(counts);
        for (i, mut stream) in others.into_iter().enumerate() {
            let counts = counts.clone();
            // Without it nobody is named, but everything works. It ends with the connection.
            let _ = std::thread::Builder::new()
                .name(format!("rank {}", i + 1))
                .spawn(move || {
                    let _ = stream.set_read_timeout(None);
                    let mut bytes = [0; 64];
                    while let Ok(come @ 1..) = stream.read(&mut bytes) {
                        counts[i + 1].fetch_add(come as u64, Ordering::Relaxed);
                    }
                });
        }
        Self::First(counts)
    }

    /// Of another rank, with its connection to rank 0.
    pub fn of_other(stream: TcpStream) -> Self {
        // A byte goes at once, rather than with those that may follow.
        let _ = stream.set_nodelay(true);
        Self::Other(stream)
    }

    /// This rank has come to an exchange.
    pub fn come(&self) {
        match self {
            Self::First(counts) => {
                counts[0].fetch_add(1, Ordering::Relaxed);
            }
            // Where rank 0 is gone, the exchange itself finds out.
            Self::Other(stream) => {
                let mut stream: &TcpStream = stream;
                let _ = stream.write_all(&[0]);
            }
        }
    }

    /// The first of those who have not come to the exchange that rank 0 is at; other ranks cannot tell.
    pub fn awaited(&self) -> Awaited {
        let Self::First(counts) = self else {
            return Awaited::default();
        };
        let counts = counts.clone();
        Awaited::by(move || {
            let count = |rank: usize| counts[rank].load(Ordering::Relaxed);
            let mine = count(0);
            (1..counts.len()).find(|&rank| count(rank) < mine)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn becomes(awaited: &Awaited, expected: Option<usize>) -> bool {
        let begin = Instant::now();
        while awaited.get() != expected {
            if begin.elapsed() > Duration::from_secs(20) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[test]
    fn the_rank_that_has_not_come_is_awaited() {
        let [(one, at_one), (two, at_two)] = [pair(), pair()];
        let first = Attendance::of_first(vec![at_one, at_two]);
        let [one, two] = [one, two].map(Attendance::of_other);
        let awaited = first.awaited();
        assert_eq!(awaited.get(), None);
        first.come();
        one.come();
        assert!(becomes(&awaited, Some(2)));
        two.come();
        assert!(becomes(&awaited, None));
        // The next exchange, to which others come before rank 0 does.
        two.come();
        first.come();
        assert!(becomes(&awaited, Some(1)));
        // A rank that is gone does not come any more.
        drop(one);
        assert!(becomes(&awaited, Some(1)));
        assert_eq!(two.awaited().get(), None);
    }
}
