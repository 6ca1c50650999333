//! Loads, stores and atomics of a warp: addresses are checked lane by lane.

use super::banks::{conflicts, passes};
use super::lane;
use crate::finding::{Fault, Space, check_aligned, out_of_bounds};
use crate::machine::{Block, Context, FULL, Warp, WideLanes, lanes_of};
use crate::memory::Place;
use crate::program::*;
use crate::report::Traffic;

/// Where an address of a lane leads.
pub enum Found<'a> {
    Global(Place<'a>),
    Shared(u64),
    Local(usize),
    Param(usize),
}

/// A window of the generic space has 4 GB.
fn in_window(address: u64, window: u64) -> Option<u64> {
    address
        .checked_sub(window)
        .filter(|&offset| offset < 1 << 32)
}

/// A lane's access: is it aligned, and is there memory?
#[inline(always)]
pub fn find<'a>(
    context: &'a Context,
    block: &Block,
    warp: &Warp,
    lane: usize,
    space: Space,
    address: u64,
    bytes: usize,
) -> Result<Found<'a>, Fault> {
    let (space, address) = match space {
        Space::Generic => {
            if let Some(offset) = in_window(address, SHARED_WINDOW) {
                (Space::Shared, offset)
            } else if let Some(offset) = in_window(address, LOCAL_WINDOW) {
                (Space::Local, offset)
            } else if let Some(offset) = in_window(address, PARAM_WINDOW) {
                (Space::Param, offset)
            } else {
                (Space::Global, address)
            }
        }
        // A shared address has 32 bits.
        Space::Shared | Space::Cluster => (space, address & 0xffff_ffff),
        _ => (space, address),
    };
    check_aligned(lane, space, address, bytes, bytes)?;
    let inside = |length: usize| {
        if address as usize <= length && address as usize + bytes <= length {
            return Ok(address as usize);
        }
        let detail = format!("it has {length} bytes");
        out_of_bounds(lane, space, address, bytes, detail)
    };
    Ok(match space {
        Space::Global | Space::Generic => {
            Found::Global(context.memory.locate(lane, address, bytes)?)
        }
        Space::Shared => Found::Shared(block.shared.own(lane, address, bytes)?),
        Space::Cluster => Found::Shared(block.shared.of_cluster(lane, address, bytes)?),
        Space::Local => {
            let thread = warp.place * 32 + lane;
            Found::Local(thread * context.kernel.local_bytes + inside(context.kernel.local_bytes)?)
        }
        Space::Param => Found::Param(inside(context.parameters.len())?),
    })
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &b| value << 8 | u64::from(b))
}

/// Loads of 32-bit registers from shared memory, by runs of lanes whose addresses follow one another or are the same.
#[inline(always)]
fn load_shared_words(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    d: &[Option<Reg>],
    addresses: &WideLanes,
) -> Result<(), Fault> {
    let bytes = 4 * d.len();
    let me = context.stamp(block, warp);
    let mut values = [[0u32; 32]; 4];
    let mut read = 0;
    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let address = addresses[lane] & 0xffff_ffff;
        // Lanes in a row without a gap.
        let together = lane + (!(rest >> lane)).trailing_zeros().min(32 - lane as u32) as usize;
        let run = |apart: u64| {
            let mut end = lane + 1;
            while end < together
                && addresses[end] == addresses[lane].wrapping_add(apart * (end - lane) as u64)
            {
                end += 1;
            }
            end
        };
        let same = run(0);
        let (end, lanes_apart) = if same > lane + 1 {
            (same, 0)
        } else {
            (run(bytes as u64), 1)
        };
        let span = if lanes_apart == 0 { 1 } else { end - lane };
        check_aligned(lane, Space::Shared, address, bytes, bytes)?;
        if address as usize + bytes * span > block.shared.len() {
            let fits = (block.shared.len() as u64).saturating_sub(address) as usize / bytes;
            let at = address + (fits * bytes) as u64;
            block.shared.check_range(lane + fits, at, bytes)?;
        }
        let place = block.shared.own_place(address);
        if lanes_apart == 0 {
            // Two of them are checked: then it counts as several readers.
            block
                .shared
                .check_reads(lane, 1, place, bytes, me + lane as u64)?;
            block
                .shared
                .check_reads(lane + 1, 1, place, bytes, me + lane as u64 + 1)?;
        } else {
            block
                .shared
                .check_reads(lane, span, place, bytes, me + lane as u64)?;
        }
        read += bytes * span;
        let from = block.shared.bytes(place as usize, bytes * span);
        let word = |at: usize| u32::from_le_bytes(from[at..at + 4].try_into().expect("four bytes"));
        for (i, values) in values[..d.len()].iter_mut().enumerate() {
            if lanes_apart == 0 {
                values[lane..end].fill(word(4 * i));
            } else {
                for (k, value) in values[lane..end].iter_mut().enumerate() {
                    *value = word(k * bytes + 4 * i);
                }
            }
        }
        rest &= !(FULL >> (32 - (end - lane)) << lane);
    }
    block.traffic.shared_read += read as u64;
    if context.options.bank_conflicts {
        block.traffic.bank_conflicts += conflicts(addresses, mask, bytes);
    }
    for (d, values) in d.iter().zip(&values) {
        if let Some(d) = d {
            warp.set32(*d, mask, values);
        }
    }
    Ok(())
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn load(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    space: Space,
    ty: Type,
    d: &[Option<Reg>],
    at: Address,
) -> Result<(), Fault> {
    let addresses = warp.addresses(at);
    let (size, bytes) = (ty.bytes(), ty.bytes() * d.len());
    let narrow = d.iter().flatten().all(|d| !d.wide());
    if space == Space::Shared && size == 4 && narrow {
        return load_shared_words(context, block, warp, mask, d, &addresses);
    }
    let mut values = [[0u64; 32]; 4];
    let me = context.stamp(block, warp);
    let piece = context.kernel.global_piece;
    let mut previous: Option<(usize, u64)> = None;
    let mut repeated = 0;
    let mut traffic = Traffic::default();
    for lane in lanes_of(mask) {
        let address = addresses[lane];
        // Many loads are the same for a whole warp. The second lane is checked too: then it counts as several readers.
        if let Some((same, before)) = previous
            && before == address
        {
            repeated += 1;
            if repeated > 1 {
                for values in &mut values[..d.len()] {
                    values[lane] = values[same];
                }
                continue;
            }
        } else {
            repeated = 0;
        }
        previous = Some((lane, address));
        match find(context, block, warp, lane, space, address, bytes)? {
            Found::Global(place) => {
                if context.options.checks {
                    place.check_read(lane, address, bytes, piece, me + lane as u64)?;
                }
                traffic.global_read += bytes as u64;
                for (i, values) in values[..d.len()].iter_mut().enumerate() {
                    values[lane] = place.load(i * size, size);
                }
            }
            Found::Shared(offset) => {
                block
                    .shared
                    .check_reads(lane, 1, offset, bytes, me + lane as u64)?;
                traffic.shared_read += bytes as u64;
                for (i, values) in values[..d.len()].iter_mut().enumerate() {
                    values[lane] = block.shared.load(offset as usize + i * size, size);
                }
            }
            Found::Local(offset) => {
                for (i, values) in values[..d.len()].iter_mut().enumerate() {
                    values[lane] = little_endian(&block.local[offset + i * size..][..size]);
                }
            }
            Found::Param(offset) => {
                for (i, values) in values[..d.len()].iter_mut().enumerate() {
                    values[lane] = little_endian(&context.parameters[offset + i * size..][..size]);
                }
            }
        }
    }
    if traffic.shared_read > 0 && context.options.bank_conflicts {
        block.traffic.bank_conflicts += conflicts(&addresses, mask, bytes);
    }
    block.traffic.add(&traffic);
    for (d, values) in d.iter().zip(&mut values) {
        if let Some(d) = d {
            match ty {
                Type::S8 => *values = values.map(|v| i64::from(v as i8) as u64),
                Type::S16 => *values = values.map(|v| i64::from(v as i16) as u64),
                Type::S32 if d.wide() => *values = values.map(|v| i64::from(v as i32) as u64),
                _ => {}
            }
            warp.set(*d, mask, values);
        }
    }
    Ok(())
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn store(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    space: Space,
    ty: Type,
    a: &[Reg],
    at: Address,
) -> Result<(), Fault> {
    let addresses = warp.addresses(at);
    let (size, bytes) = (ty.bytes(), ty.bytes() * a.len());
    let mut values = [[0u64; 32]; 4];
    for (values, a) in values.iter_mut().zip(a) {
        *values = warp.get(*a);
    }
    let me = context.stamp(block, warp);
    let piece = context.kernel.global_piece;
    let mut traffic = Traffic::default();
    for lane in lanes_of(mask) {
        let address = addresses[lane];
        match find(context, block, warp, lane, space, address, bytes)? {
            Found::Global(place) => {
                if context.options.checks {
                    place.check_write(lane, address, bytes, piece, me + lane as u64)?;
                }
                traffic.global_written += bytes as u64;
                for (i, values) in values[..a.len()].iter().enumerate() {
                    place.store(i * size, size, values[lane]);
                }
            }
            Found::Shared(offset) => {
                block
                    .shared
                    .check_write(lane, offset, bytes, me + lane as u64)?;
                traffic.shared_written += bytes as u64;
                for (i, values) in values[..a.len()].iter().enumerate() {
                    block
                        .shared
                        .store(offset as usize + i * size, size, values[lane]);
                }
            }
            Found::Local(offset) => {
                for (i, values) in values[..a.len()].iter().enumerate() {
                    block.local[offset + i * size..][..size]
                        .copy_from_slice(&values[lane].to_le_bytes()[..size]);
                }
            }
            Found::Param(_) => {
                let detail = "parameters cannot be written".to_string();
                return out_of_bounds(lane, Space::Param, address, bytes, detail);
            }
        }
    }
    if traffic.shared_written > 0 && context.options.bank_conflicts {
        block.traffic.bank_conflicts += conflicts(&addresses, mask, bytes);
    }
    block.traffic.add(&traffic);
    Ok(())
}

/// Four, two or one matrices of 8 x 8: lane `8 m + r` has the address of row `r` of matrix `m`.
pub fn load_matrix(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    d: &[Reg],
    transposed: bool,
    at: Address,
) -> Result<(), Fault> {
    let addresses = warp.addresses(at);
    let me = context.stamp(block, warp);
    for (matrix, d) in d.iter().enumerate() {
        let mut halves = [[0u32; 8]; 8];
        for (row, halves) in halves.iter_mut().enumerate() {
            let lane = matrix * 8 + row;
            let Found::Shared(offset) = find(
                context,
                block,
                warp,
                lane,
                Space::Shared,
                addresses[lane],
                16,
            )?
            else {
                unreachable!("the space is given")
            };
            block
                .shared
                .check_reads(lane, 1, offset, 16, me + lane as u64)?;
            let row = block.shared.bytes(offset as usize, 16);
            for (half, bytes) in halves.iter_mut().zip(row.chunks_exact(2)) {
                *half = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
        if context.options.bank_conflicts {
            let rows = (0..8).map(|row| addresses[matrix * 8 + row]);
            block.traffic.bank_conflicts += passes(rows, 16).saturating_sub(1);
        }
        let values = std::array::from_fn(|lane| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            let [low, high] = if transposed {
                [halves[column][row], halves[column + 1][row]]
            } else {
                [halves[row][column], halves[row][column + 1]]
            };
            u64::from(low | high << 16)
        });
        warp.set(*d, FULL, &values);
    }
    block.traffic.shared_read += 128 * d.len() as u64;
    Ok(())
}

/// Atomics are ordered by themselves: they race with nothing.
pub fn atomic(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    op: &Op,
) -> Result<(), Fault> {
    let Op::Atomic {
        space,
        atom,
        ty,
        d,
        at,
        a,
        b,
    } = op
    else {
        unreachable!("only atomics come here")
    };
    let addresses = warp.addresses(*at);
    let (a, b) = (warp.get(*a), b.map(|b| warp.get(b)));
    let bytes = ty.bytes();
    let mut old = [0; 32];
    for lane in lanes_of(mask) {
        let change = |value: u64| match atom {
            Atom::Exchange => a[lane],
            Atom::CompareAndSwap if value == a[lane] => b.map_or(value, |b| b[lane]),
            Atom::CompareAndSwap => value,
            _ => {
                let func = match atom {
                    Atom::Add => Func::Add,
                    Atom::Min => Func::Min,
                    Atom::Max => Func::Max,
                    Atom::And => Func::And,
                    Atom::Or => Func::Or,
                    _ => Func::Xor,
                };
                lane::evaluate(func, &Mode::plain(*ty), [value, a[lane], 0])
            }
        };
        old[lane] = match find(context, block, warp, lane, *space, addresses[lane], bytes)? {
            Found::Global(place) => {
                block.traffic.global_read += bytes as u64;
                block.traffic.global_written += bytes as u64;
                place.mark_written(bytes);
                place.update(bytes, change)
            }
            Found::Shared(offset) => {
                let old = block.shared.load(offset as usize, bytes);
                block.shared.store(offset as usize, bytes, change(old));
                old
            }
            Found::Local(_) | Found::Param(_) => {
                let detail = "atomics work on device and shared memory".to_string();
                return out_of_bounds(lane, Space::Local, addresses[lane], bytes, detail);
            }
        };
    }
    if let Some(d) = d {
        warp.set(*d, mask, &old);
    }
    Ok(())
}
