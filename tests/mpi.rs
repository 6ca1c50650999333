//! Training in several processes under the `mpirun` of Open MPI: the same learning as in one, and what happens when a rank dies, hangs or
//! diverges. Needs a build with the feature `mpi`; counted as ignored where that or `mpirun` is missing, or, for two hosts, the right to make network namespaces.

#[path = "support/hosts.rs"]
mod hosts;

use eqprop_cuda::run::Checkpoint;
use hosts::TwoHosts;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_eqprop-cuda");
/// 50 images in batches of 16, so that a batch of two rows comes last. Without a tolerance, by which each rank ends its phases.
const TINY: &str = "train --dataset FashionMNIST-mini --offline --preset quickstart --channels 2,2,4,4 --limit-train 50 --limit-test 33 \
                    --batch-size 16 --num-iterations-inference 4 --num-iterations-training 2 --threads 1 --learning-rate-schedule constant \
                    --nudged-phase sum-difference --tolerance off";
const BACKPROP: &str = "train --algorithm backprop --dataset FashionMNIST-mini --offline --channels 2,2,4,4 --limit-train 50 --limit-test 33 \
                        --batch-size 16 --threads 1";
/// Ranks that wait keep a core busy: where other work takes it, they are slow.
const PATIENCE: Duration = Duration::from_secs(400);
/// How long processes may outlive the end of the run.
const AFTERLIFE: Duration = Duration::from_secs(10);

type Outcome = Result<(), Failed>;

fn main() {
    let arguments = Arguments::from_args();
    let here = Command::new("mpirun").arg("--version").output();
    let missing = match (cfg!(feature = "mpi"), here.is_ok()) {
        (false, _) => Some("this build has no MPI (feature mpi)"),
        (true, false) => Some("no mpirun (Debian's package openmpi-bin)"),
        (true, true) => None,
    };
    if let Some(missing) = missing {
        println!("skipped: {missing}");
    }
    let has_hosts = TwoHosts::make().is_some();
    if !has_hosts {
        println!("skipped: two hosts (`ip netns add` needs root)");
    }
    let trial = |name, test: fn(&Path) -> Outcome| {
        let folder = folder_of(name);
        Trial::test(name, move || test(&folder)).with_ignored_flag(missing.is_some())
    };
    let trials = vec![
        trial("ranks_train_as_one_process_does", |folder| {
            same_training(folder, TINY, 1e-9)
        }),
        trial("ranks_backpropagate_as_one_process_does", |folder| {
            same_training(folder, BACKPROP, 1e-9)
        }),
        trial("two_hosts_train_as_one_process_does", two_hosts)
            .with_ignored_flag(missing.is_some() || !has_hosts),
        trial("a_rerun_is_the_same_to_the_last_bit", reruns),
        trial("another_number_of_ranks_goes_on", |folder| {
            another_number(folder, TINY)?;
            another_number(&folder.join("backprop"), BACKPROP)
        }),
        trial("kills_lose_nothing_and_leave_nothing_behind", kills),
        trial("a_rank_that_hangs_ends_all_and_is_named", hang),
        trial("a_signal_to_any_rank_saves_once", signal),
        trial("a_divergence_is_one_message_of_a_rank", divergence),
        trial("what_cannot_work_is_one_clear_error", refusals),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// An empty folder of a test's own.
fn folder_of(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("mpi")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// `ranks` processes in `folder`, or one without `mpirun`. Rank processes are known by the folder in their environment.
fn command(folder: &Path, ranks: usize, arguments: &str) -> Command {
    let mut command = match ranks {
        1 => Command::new(PROGRAM),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["--oversubscribe", "-n", &ranks.to_string(), PROGRAM]);
            command
        }
    };
    command.args(arguments.split_whitespace());
    prepared(command, folder)
}

fn prepared(mut command: Command, folder: &Path) -> Command {
    command
        .current_dir(folder)
        // As root, in a container: what Open MPI asks to be told there.
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        .env("EQPROP_TEST_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits for the end; kills what goes on for too long.
fn end_of(mut child: Child) -> Result<Output, Failed> {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            let said = said(&child.wait_with_output()?);
            return Err(format!("no end within {PATIENCE:?}; so far: {said}").into());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(child.wait_with_output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn succeed(folder: &Path, ranks: usize, arguments: &str) -> Result<String, Failed> {
    let output = end_of(command(folder, ranks, arguments).spawn()?)?;
    if !output.status.success() {
        return Err(format!("{ranks} ranks, {arguments}: {}", said(&output)).into());
    }
    Ok(said(&output))
}

fn fail(folder: &Path, ranks: usize, arguments: &str) -> Result<String, Failed> {
    let output = end_of(command(folder, ranks, arguments).spawn()?)?;
    match output.status.success() {
        true => Err(format!("{ranks} ranks, {arguments} succeeded").into()),
        false => Ok(said(&output)),
    }
}

/// The processes of this test that mpirun started, by rank.
fn rank_processes(folder: &Path) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that has ended meanwhile, or a zombie, has none.
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        let environment = String::from_utf8_lossy(&environment);
        let value = |name: &str| {
            let mut all = environment
                .split('\0')
                .filter_map(|one| one.split_once('='));
            all.find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_string())
        };
        let rank = value("OMPI_COMM_WORLD_RANK").and_then(|rank| rank.parse().ok());
        if let (Some(rank), true) = (
            rank,
            value("EQPROP_TEST_FOLDER").as_deref() == folder.to_str(),
        ) {
            found.push((rank, process));
        }
    }
    found.sort_unstable();
    found
}

fn nothing_is_left(folder: &Path) -> Outcome {
    let deadline = Instant::now() + AFTERLIFE;
    loop {
        match rank_processes(folder) {
            left if left.is_empty() => return Ok(()),
            left if Instant::now() > deadline => {
                return Err(format!("ranks and processes {left:?} are left").into());
            }
            _ => sleep(Duration::from_millis(50)),
        }
    }
}

fn send(signal: &str, process: u32) -> Outcome {
    let process = process.to_string();
    Command::new("kill").args([signal, &process]).status()?;
    Ok(())
}

/// Waits for the end of an epoch.
fn wait_for_metrics(run: &Path) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while !run.join("metrics.jsonl").exists() {
        if Instant::now() > deadline {
            return Err("no epoch is over".into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn last(folder: &Path, run: &str) -> Result<Checkpoint, Failed> {
    Ok(Checkpoint::load(
        &folder.join(run).join("last.safetensors"),
    )?)
}

/// The largest difference of two runs' parameters, over their largest parameter.
fn difference(one: &Checkpoint, other: &Checkpoint) -> f64 {
    let (mut difference, mut largest) = (0.0_f64, 0.0_f64);
    let [a, b] = [one, other].map(|run| run.model.parameters.tensors());
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        difference = difference.max((a - b).abs());
        largest = largest.max(a.abs());
    }
    difference / largest
}

fn metrics(folder: &Path, run: &str) -> Result<Vec<serde_json::Value>, Failed> {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl"))?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Batches that do not divide, and at five ranks a batch with fewer rows than ranks.
fn same_training(folder: &Path, tiny: &str, most: f64) -> Outcome {
    let arguments = format!("{tiny} --epochs 2 --precision fp64 --output");
    succeed(folder, 1, &format!("{arguments} r1"))?;
    let one = last(folder, "r1")?;
    for ranks in [2, 3, 4, 5] {
        let run = format!("r{ranks}");
        let printed = succeed(folder, ranks, &format!("{arguments} {run}"))?;
        if printed.matches("run folder").count() != 1 {
            return Err(format!("{ranks} ranks printed {printed}").into());
        }
        let difference = difference(&one, &last(folder, &run)?);
        if difference > most {
            return Err(format!("{ranks} ranks: parameters differ by {difference:e}").into());
        }
        for (one, several) in metrics(folder, "r1")?.iter().zip(metrics(folder, &run)?) {
            for part in ["train", "test"] {
                for what in ["top1_error", "top5_error"] {
                    if one[part][what] != several[part][what] || !one[part][what].is_number() {
                        return Err(format!("{ranks} ranks, {part}: {what}").into());
                    }
                }
                let [one, several] = [one, &several].map(|record| record[part]["cost"].as_f64());
                let (one, several) = one.zip(several).ok_or("no cost")?;
                if (one - several).abs() > most * one {
                    return Err(format!("{ranks} ranks, {part}: cost {one} {several}").into());
                }
            }
        }
    }
    Ok(())
}

/// Each in a network of its own, joined by a cable: the ranks exchange by TCP, and share no memory. By each way of learning.
fn two_hosts(folder: &Path) -> Outcome {
    let hosts = TwoHosts::make().ok_or("two hosts")?;
    let shell = folder.join("remote-shell");
    fs::write(&shell, hosts.remote_shell())?;
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755))?;
    for (name, tiny) in [("ep", TINY), ("backprop", BACKPROP)] {
        let arguments = format!("{tiny} --epochs 1 --precision fp64 --output {name}");
        succeed(folder, 1, &format!("{arguments}-one"))?;
        let places = TwoHosts::ADDRESSES.map(|address| format!("{address}:1"));
        let mut command = hosts.on(0, "mpirun");
        command
            .args(["--host", &places.join(","), "-n", "2"])
            .args(["--mca", "btl", "tcp,self"])
            .args(["--mca", "plm_rsh_agent", shell.to_str().ok_or("a path")?])
            .args([PROGRAM])
            .args(format!("{arguments}-two").split_whitespace());
        let output = end_of(prepared(command, folder).spawn()?)?;
        if !output.status.success() {
            return Err(said(&output).into());
        }
        let [one, two] = ["one", "two"].map(|run| last(folder, &format!("{name}-{run}")));
        let difference = difference(&one?, &two?);
        if difference > 1e-9 {
            return Err(format!("{name}: parameters differ by {difference:e}").into());
        }
        nothing_is_left(folder)?;
    }
    Ok(())
}

fn reruns(folder: &Path) -> Outcome {
    for run in ["one", "other"] {
        succeed(folder, 3, &format!("{TINY} --epochs 1 --output {run}"))?;
    }
    match difference(&last(folder, "one")?, &last(folder, "other")?) {
        0.0 => Ok(()),
        difference => Err(format!("parameters differ by {difference:e}").into()),
    }
}

/// At an epoch boundary a run goes on with any number of ranks.
fn another_number(folder: &Path, tiny: &str) -> Outcome {
    fs::create_dir_all(folder)?;
    let arguments = format!("{tiny} --precision fp64");
    succeed(folder, 1, &format!("{arguments} --epochs 3 --output one"))?;
    succeed(folder, 2, &format!("{arguments} --epochs 1 --output other"))?;
    for (ranks, epochs) in [(3, 2), (1, 3)] {
        let printed = succeed(
            folder,
            ranks,
            &format!("train --resume other --epochs {epochs}"),
        )?;
        if !printed.contains(&format!("going on after {} epochs", epochs - 1)) {
            return Err(printed.into());
        }
    }
    match difference(&last(folder, "one")?, &last(folder, "other")?) {
        difference if difference < 1e-9 => Ok(()),
        difference => Err(format!("parameters differ by {difference:e}").into()),
    }
}

/// A run that loses a random rank again and again ends bit for bit like one that loses none. How often: EQPROP_KILLS.
fn kills(folder: &Path) -> Outcome {
    let kills = std::env::var("EQPROP_KILLS").ok();
    let kills: u32 = kills.map_or(Ok(6), |kills| kills.parse())?;
    let (ranks, epochs) = (2, 100_000);
    let run = folder.join("killed");
    // Any sequence of delays and ranks will do, if it is the same the next time.
    let mut random = 12345_u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for kill in 0..kills {
        let arguments = format!("{TINY} --epochs {epochs} --save-every 2 --output killed --resume");
        let child = command(folder, ranks, &arguments).spawn()?;
        if kill == 0 {
            wait_for_metrics(&run)?;
        }
        sleep(Duration::from_millis(u64::from(next(1500))));
        let victims = rank_processes(folder);
        let victim = victims.get(next(ranks as u32) as usize);
        let Some(&(rank, process)) = victim else {
            // Not even started: as if it had been killed before it did anything.
            let mut child = child;
            child.kill()?;
            child.wait()?;
            nothing_is_left(folder)?;
            continue;
        };
        send("-KILL", process)?;
        let output = end_of(child)?;
        let said = said(&output);
        let named = said.contains(&format!("process rank {rank} with PID"));
        // Before a process has joined MPI, mpirun does not say which it was.
        let early = !said.contains("run folder");
        if output.status.success() || !(named || early) {
            return Err(format!("rank {rank} was killed: {said}").into());
        }
        nothing_is_left(folder)?;
    }
    let epochs = last(folder, "killed")?.position.epoch + 1;
    let resume = format!("train --resume killed --epochs {epochs}");
    succeed(folder, ranks, &resume)?;
    let undisturbed = format!("{TINY} --epochs {epochs} --output undisturbed");
    succeed(folder, ranks, &undisturbed)?;
    match difference(&last(folder, "killed")?, &last(folder, "undisturbed")?) {
        0.0 => Ok(()),
        difference => {
            Err(format!("after {epochs} epochs parameters differ by {difference:e}").into())
        }
    }
}

fn hang(folder: &Path) -> Outcome {
    for hanging in [0, 1, 2] {
        let run = format!("run{hanging}");
        let arguments = format!("{TINY} --epochs 100000 --collective-timeout 2 --output {run}");
        let child = command(folder, 3, &arguments).spawn()?;
        wait_for_metrics(&folder.join(&run))?;
        let ranks = rank_processes(folder);
        let process = ranks.iter().find(|(rank, _)| *rank == hanging);
        send("-STOP", process.ok_or("no such rank")?.1)?;
        let output = end_of(child)?;
        let said = said(&output);
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("error:"))
            .collect();
        let expected = format!("error: rank {hanging}");
        if output.status.success() || errors.len() != 1 || !errors[0].starts_with(&expected) {
            return Err(format!("rank {hanging} was stopped: {said}").into());
        }
        nothing_is_left(folder)?;
        last(folder, &run)?;
    }
    Ok(())
}

fn signal(folder: &Path) -> Outcome {
    for told in [0, 1] {
        let run = format!("run{told}");
        let arguments = format!("{TINY} --epochs 100000 --output {run}");
        let child = command(folder, 2, &arguments).spawn()?;
        wait_for_metrics(&folder.join(&run))?;
        send(
            "-TERM",
            rank_processes(folder).get(told).ok_or("no such rank")?.1,
        )?;
        let said = said(&end_of(child)?);
        if said.matches("interrupted and saved").count() != 1 {
            return Err(format!("rank {told} got SIGTERM: {said}").into());
        }
        nothing_is_left(folder)?;
        let epoch = last(folder, &run)?.position.epoch;
        let resume = format!("train --resume {run} --epochs {}", epoch + 1);
        succeed(folder, 2, &resume)?;
    }
    Ok(())
}

fn divergence(folder: &Path) -> Outcome {
    let arguments = format!("{TINY} --epochs 3 --optimizer sgd --learning-rate 1e30 --output run");
    let said = fail(folder, 2, &arguments)?;
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    let named = |line: &&str| line.contains("of 2: the training diverged");
    if errors.len() != 1 || !errors.iter().all(named) {
        return Err(said.into());
    }
    last(folder, "run")?;
    nothing_is_left(folder)
}

fn refusals(folder: &Path) -> Outcome {
    for (ranks, arguments, expected) in [
        (
            2,
            &format!("{TINY} --collective-timeout 0") as &str,
            "--collective-timeout 0",
        ),
        (
            2,
            &format!("{TINY} --gpus-per-node 2"),
            "has started 2 processes already",
        ),
        (
            1,
            &format!("{TINY} --nodes 2 --gpus-per-node 2"),
            "torchrun, srun or mpirun",
        ),
    ] {
        let said = fail(folder, ranks, arguments)?;
        let errors = said
            .lines()
            .filter(|line| line.starts_with("error:"))
            .count();
        if errors != 1 || !said.contains(expected) {
            return Err(format!("{arguments}: {said}").into());
        }
    }
    // The variables of a launcher, but not its MPI.
    for (variables, expected) in [
        ("RANK=0", "WORLD_SIZE is not set"),
        (
            "RANK=2 WORLD_SIZE=2 LOCAL_RANK=0",
            "RANK is 2, but WORLD_SIZE is 2",
        ),
        ("RANK=1 WORLD_SIZE=2 LOCAL_RANK=1", "MPI knows of 1"),
    ] {
        let mut command = command(folder, 1, TINY);
        for variable in variables.split(' ') {
            let (name, value) = variable.split_once('=').ok_or("a variable")?;
            command.env(name, value);
        }
        let said = said(&end_of(command.spawn()?)?);
        if !said.contains(expected) {
            return Err(format!("{variables}: {said}").into());
        }
    }
    Ok(())
}
