//! Which process of how many this is: what launchers leave in the environment.

use crate::data::Shard;

/// What a launcher sets, in the order in which they are asked: who started a process last has set the more special names.
struct Launcher {
    /// as a user calls it
    name: &'static str,
    rank: &'static str,
    world: &'static str,
    local_rank: &'static str,
    /// A variable without which the others mean something else: Slurm sets SLURM_PROCID for a batch script, too, which runs once.
    only_with: &'static str,
}

const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        name: "torchrun",
        rank: "RANK",
        world: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        only_with: "RANK",
    },
    Launcher {
        name: "Open MPI's mpirun",
        rank: "OMPI_COMM_WORLD_RANK",
        world: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        only_with: "OMPI_COMM_WORLD_RANK",
    },
    Launcher {
        name: "srun",
        rank: "SLURM_PROCID",
        world: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        only_with: "SLURM_STEP_ID",
    },
    Launcher {
        name: "MPICH's mpirun",
        rank: "PMI_RANK",
        world: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        only_with: "PMI_RANK",
    },
];

/// A process among those of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// this process, and how many there are
    pub shard: Shard,
    /// this process among those of its machine, from 0
    pub local_rank: usize,
    /// what started it, as a user calls it
    pub launcher: &'static str,
}

/// The environment does not say which process this is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaceError(String);

impl Place {
    /// The place of this process; `None` when no launcher started several.
    ///
    /// # Errors
    /// When variables of a launcher are missing, are no numbers, or contradict each other.
    pub fn of_this_process() -> Result<Option<Self>, PlaceError> {
        Self::find(&|name| std::env::var(name).ok())
    }

    /// The same, where `variable` gives the value of an environment variable.
    ///
    /// # Errors
    /// See [`Place::of_this_process`].
    pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, PlaceError> {
        let launcher = LAUNCHERS
            .iter()
            .find(|launcher| variable(launcher.only_with).is_some());
        let Some(launcher) = launcher else {
            return match variable("WORLD_SIZE").as_deref() {
                None | Some("1") => Ok(None),
                Some(world) => Err(PlaceError(format!(
                    "WORLD_SIZE is {world}, but RANK is not set; start every process with RANK, LOCAL_RANK and WORLD_SIZE, as \
                     torchrun does, or unset WORLD_SIZE to train in one process"
                ))),
            };
        };
        let number = |name: &str| {
            let value = variable(name).ok_or_else(|| {
                PlaceError(format!(
                    "{name} is not set, but {} is; {} sets both, or unset it to train in one process",
                    launcher.only_with, launcher.name
                ))
            })?;
            value.trim().parse::<usize>().map_err(|_| {
                PlaceError(format!(
                    "{name} is {value:?}; expected a whole number from 0 on, as {} sets it",
                    launcher.name
                ))
            })
        };
        let (rank, world) = (number(launcher.rank)?, number(launcher.world)?);
        if rank >= world {
            return Err(PlaceError(format!(
                "{} is {rank}, but {} is {world}; expected ranks from 0 to one less than the number of processes",
                launcher.rank, launcher.world
            )));
        }
        if world == 1 {
            return Ok(None);
        }
        let local_rank = match (variable(launcher.local_rank), launcher.rank) {
            // MPICH does not always say; on one machine it is the rank.
            (None, "PMI_RANK") => rank,
            _ => number(launcher.local_rank)?,
        };
        Ok(Some(Self {
            shard: Shard { rank, world },
            local_rank,
            launcher: launcher.name,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> Result<Option<(usize, usize, usize)>, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let place = Place::find(&variable).map_err(|error| error.to_string())?;
        Ok(place.map(|place| (place.shard.rank, place.shard.world, place.local_rank)))
    }

    #[test]
    fn each_launcher_is_understood() {
        let torchrun = [("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")];
        assert_eq!(find(&torchrun), Ok(Some((5, 8, 1))));
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("OMPI_COMM_WORLD_SIZE", "3"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
        ];
        assert_eq!(find(&open_mpi), Ok(Some((2, 3, 0))));
        let slurm = [
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "9"),
            ("SLURM_STEP_NUM_TASKS", "16"),
            ("SLURM_LOCALID", "1"),
        ];
        assert_eq!(find(&slurm), Ok(Some((9, 16, 1))));
        assert_eq!(
            find(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")]),
            Ok(Some((1, 2, 1)))
        );
    }

    #[test]
    fn one_process_is_none_of_several() {
        assert_eq!(find(&[]), Ok(None));
        assert_eq!(find(&[("WORLD_SIZE", "1")]), Ok(None));
        let torchrun = [("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")];
        assert_eq!(find(&torchrun), Ok(None));
        // The script of a batch job runs once, whatever the job has room for.
        assert_eq!(
            find(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]),
            Ok(None)
        );
    }

    #[test]
    fn a_wrong_set_of_variables_is_one_clear_error() {
        let error = |variables: &[(&str, &str)]| find(variables).unwrap_err();
        assert!(error(&[("WORLD_SIZE", "4")]).contains("RANK is not set"));
        assert!(error(&[("RANK", "1")]).contains("WORLD_SIZE is not set"));
        assert!(
            error(&[("RANK", "4"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0")]).contains("RANK is 4")
        );
        assert!(
            error(&[("RANK", "-1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0")]).contains("\"-1\"")
        );
        assert!(error(&[("RANK", "1"), ("WORLD_SIZE", "4")]).contains("LOCAL_RANK is not set"));
    }
}
