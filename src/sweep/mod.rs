//! Many runs from one file: all combinations of what its lists say ([`Plan::read`]), or random draws, each trained by a
//! process of its own ([`train`]) in a folder that is called after what tells it from the others.
//!
//! ```toml
//! preset = "quickstart"            # for all points: whatever `train` takes
//! epochs = 4
//! draws = 10                       # so many draws of what [random] has
//!
//! [grid]                           # all combinations
//! lossfn = ["MSE", "CE"]
//! seed = [0, 1, 2]
//!
//! [random]
//! learning-rate = { from = 1e-4, to = 1e-2, scale = "log" }
//!
//! [case.published]                 # and each of these: settings that belong together, under a name
//! mode = "asynchronous"
//! [case.fast]
//! ```

mod draw;
mod file;
mod jobs;
mod point;
mod points;

pub use file::Plan;
pub use jobs::{Crew, Event, train};
pub use point::{Point, State};
