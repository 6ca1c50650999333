//! What other packages put on a machine; counted as ignored where they are missing.

use eqprop_cuda::data::{DatasetName, Source, load};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;

const FASHION: &str = "/usr/share/datasets/fashion-mnist";

fn main() {
    let arguments = Arguments::from_args();
    let missing = !Path::new(FASHION).is_dir();
    if missing {
        println!("skipped: no {FASHION} (Debian's package dataset-fashion-mnist)");
    }
    let trial = Trial::test("the_systems_fashion_mnist_is_the_published_one", fashion);
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(missing)]).exit();
}

/// The images inside the program are its first ones.
fn fashion() -> Result<(), Failed> {
    let source = Source {
        data_dir: Some(FASHION.into()),
        offline: true,
        ..Source::default()
    };
    let splits = load(DatasetName::FashionMnist, &source)?;
    let mini = load(DatasetName::FashionMnistMini, &Source::default())?;
    let sizes = (splits.train.len(), splits.test.len());
    if sizes != (60_000, 10_000) {
        return Err(format!("{sizes:?} images").into());
    }
    if mini.train.image(0) != splits.train.image(0) {
        return Err("the first image differs from that of the program".into());
    }
    Ok(())
}
