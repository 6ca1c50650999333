//! How ranks on GPUs find each other: rank 0 hands NCCL's id, 128 bytes, to every other rank over one TCP connection each, which stays for
//! [`Attendance`].

use super::attendance::Attendance;
use crate::data::Shard;
use crate::error::{Context, Error, Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Bytes of NCCL's id.
pub const ID_BYTES: usize = 128;
/// What a rank says first, so that a stranger at the port is none. Then come its number and how many there are, as u32.
const GREETING: &[u8; 8] = b"eqprop1\n";
const PAUSE: Duration = Duration::from_millis(20);
/// A connection that says nothing for so long is a stranger's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where rank 0 waits for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// name or address of rank 0's machine
    pub host: String,
    /// a free port on it
    pub port: u16,
}

impl Meeting {
    /// What `MASTER_ADDR` and `MASTER_PORT` name, where `variable` gives the value of an environment variable. torchrun's own server may be
    /// at that port; then it is the next one.
    ///
    /// # Errors
    /// When one of them is missing or no port.
    pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str, example: &str| {
            variable(name).ok_or_else(|| {
                Error::Ranks(format!(
                    "{name} is not set; set it to {example} for all processes, as torchrun does"
                ))
            })
        };
        let host = get("MASTER_ADDR", "the name of rank 0's machine")?;
        let port = get("MASTER_PORT", "a free port there, such as 29500")?;
        let number: u16 = port.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
            Error::Ranks(format!(
                "MASTER_PORT is {port:?}; expected a port, from 1 to 65535"
            ))
        })?;
        let taken = variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
        let port = match (taken, number) {
            (true, u16::MAX) => {
                bail!(
                    Ranks,
                    "MASTER_PORT is {port}, and the one after it is needed; choose a smaller one"
                )
            }
            (true, number) => number + 1,
            (false, number) => number,
        };
        Ok(Self { host, port })
    }

    /// What rank 0 makes with `id`, on every rank, and the connections.
    ///
    /// # Errors
    /// When the ranks do not find each other within `limit`, or disagree on their number.
    pub fn share(
        &self,
        shard: Shard,
        limit: Duration,
        id: impl FnOnce() -> Result<[u8; ID_BYTES]>,
    ) -> Result<([u8; ID_BYTES], Attendance)> {
        let deadline = Instant::now() + limit;
        match shard.rank {
            0 => {
                let id = id()?;
                let others = self.serve(shard.world, &id, deadline)?;
                Ok((id, Attendance::of_first(others)))
            }
            _ => {
                let (id, stream) = self.ask(shard, deadline)?;
                Ok((id, Attendance::of_other(stream)))
            }
        }
    }

    /// The connections of all other ranks, rank 1 first.
    fn serve(
        &self,
        world: usize,
        id: &[u8; ID_BYTES],
        deadline: Instant,
    ) -> Result<Vec<TcpStream>> {
        let listener = TcpListener::bind(("0.0.0.0", self.port)).with_context(|| {
            format!(
                "rank 0 cannot wait at port {}; set MASTER_PORT to a free one",
                self.port
            )
        })?;
        listener.set_nonblocking(true)?;
        let mut others: Vec<Option<TcpStream>> = (1..world).map(|_| None).collect();
        while others.iter().any(Option::is_none) {
            if Instant::now() > deadline {
                let missing: Vec<String> = (1..world)
                    .filter(|&rank| others[rank - 1].is_none())
                    .map(|rank| rank.to_string())
                    .collect();
                bail!(
                    Ranks,
                    "rank {} of {world} did not come; is it running, and does it reach {}:{}?",
                    missing.join(", "),
                    self.host,
                    self.port
                );
            }
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(error) => return Err(error).context("waiting for the other ranks"),
            };
            // Strangers at the port are left standing.
            let Ok(Shard {
                rank,
                world: theirs,
            }) = read_greeting(&mut stream)
            else {
                continue;
            };
            if theirs != world || !(1..world).contains(&rank) {
                bail!(
                    Ranks,
                    "rank {rank} believes that there are {theirs} ranks, rank 0 knows of {world}; start all of them together"
                );
            }
            if stream.write_all(id).is_ok() {
                others[rank - 1] = Some(stream);
            }
        }
        Ok(others.into_iter().flatten().collect())
    }

    fn ask(&self, shard: Shard, deadline: Instant) -> Result<([u8; ID_BYTES], TcpStream)> {
        loop {
            match self.try_ask(shard) {
                Ok(met) => return Ok(met),
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(error) => {
                    return Err(Error::Ranks(format!(
                        "rank {} cannot reach rank 0 at {}:{} ({error}); check MASTER_ADDR and MASTER_PORT, and that rank 0 runs",
                        shard.rank, self.host, self.port
                    )));
                }
            }
        }
    }

    fn try_ask(&self, shard: Shard) -> std::io::Result<([u8; ID_BYTES], TcpStream)> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        let address = addresses.next().ok_or(ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(GREETING)?;
        stream.write_all(&(shard.rank as u32).to_le_bytes())?;
        stream.write_all(&(shard.world as u32).to_le_bytes())?;
        let mut id = [0; ID_BYTES];
        stream.read_exact(&mut id)?;
        Ok((id, stream))
    }
}

fn read_greeting(stream: &mut TcpStream) -> std::io::Result<Shard> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting)?;
    if &greeting != GREETING {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut number = || {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        Ok::<_, std::io::Error>(u32::from_le_bytes(bytes) as usize)
    };
    Ok(Shard {
        rank: number()?,
        world: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that was free a moment ago.
    fn meeting() -> Meeting {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Meeting {
            host: "127.0.0.1".into(),
            port,
        }
    }

    fn share(
        meeting: &Meeting,
        rank: usize,
        world: usize,
        limit: Duration,
    ) -> Result<[u8; ID_BYTES]> {
        let met = meeting.share(Shard { rank, world }, limit, || Ok([7; ID_BYTES]))?;
        Ok(met.0)
    }

    #[test]
    fn every_rank_gets_the_id_of_rank_0_whatever_else_knocks() {
        let meeting = &meeting();
        std::thread::scope(|scope| {
            let ranks = [2, 1, 0]
                .map(|rank| scope.spawn(move || share(meeting, rank, 3, Duration::from_secs(20))));
            scope.spawn(move || {
                // The ranks may be done before it comes.
                for _ in 0..100 {
                    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", meeting.port)) {
                        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
                        return;
                    }
                    std::thread::sleep(PAUSE / 10);
                }
            });
            for rank in ranks {
                assert_eq!(rank.join().unwrap().unwrap(), [7; ID_BYTES]);
            }
        });
    }

    #[test]
    fn who_does_not_come_is_named() {
        let error = share(&meeting(), 0, 3, Duration::from_millis(50)).unwrap_err();
        assert!(
            error.to_string().contains("rank 1, 2 of 3 did not come"),
            "{error}"
        );
        let error = share(&meeting(), 1, 3, Duration::from_millis(50)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("rank 1 cannot reach rank 0 at 127.0.0.1:"),
            "{error}"
        );
    }

    #[test]
    fn ranks_that_count_differently_are_told() {
        let meeting = &meeting();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| share(meeting, 0, 2, Duration::from_secs(20)));
            scope.spawn(|| share(meeting, 1, 4, Duration::from_millis(1000)));
            let error = first.join().unwrap().unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("there are 4 ranks, rank 0 knows of 2"),
                "{error}"
            );
        });
    }

    #[test]
    fn where_to_meet_comes_from_the_environment() {
        let find = |variables: &[(&str, &str)]| {
            Meeting::find(&|name| {
                variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.to_string())
            })
            .map(|meeting| (meeting.host, meeting.port))
            .map_err(|error| error.to_string())
        };
        let both = [("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500")];
        assert_eq!(find(&both), Ok(("node7".into(), 29500)));
        let torchrun = [both[0], both[1], ("TORCHELASTIC_USE_AGENT_STORE", "True")];
        assert_eq!(find(&torchrun), Ok(("node7".into(), 29501)));
        assert!(
            find(&both[..1])
                .unwrap_err()
                .contains("MASTER_PORT is not set")
        );
        assert!(
            find(&[both[0], ("MASTER_PORT", "http")])
                .unwrap_err()
                .contains("\"http\"")
        );
    }
}
