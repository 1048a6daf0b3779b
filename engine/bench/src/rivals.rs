//! What a user would pick instead, on the same workflow: steps in a row, each of which reads a JSON document of a kibibyte,
//! counts it up by one and hands it on. Each tool keeps what it usually keeps of a finished step, and is asked for the
//! right result. What a tool's process costs and what each further step costs are told apart by running it with ten
//! steps and with a hundred more. What is missing on this machine is said, not left out.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::figures::downbeat;
use crate::guest;
use crate::machine::find;
use crate::measure::median;
use crate::report::{Cost, Rival};
use crate::workshop::Workshop;

const ROUNDS: usize = 9;
const STEPS: usize = 10;
const MORE_STEPS: usize = 100;

/// Somebody who can do it.
struct Contender {
    name: &'static str,
    keeps: &'static str,
    /// The programs that it needs.
    needs: &'static [&'static str],
    /// The command that carries out so many steps in a folder that holds `0.json`.
    command: fn(&Path, usize) -> Result<Command>,
}

const CONTENDERS: &[Contender] = &[
    Contender { name: "downbeat run", keeps: "every event, synced", needs: &[], command: by_downbeat },
    Contender { name: "a shell script, jq", keeps: "files, not synced", needs: &["sh", "jq"], command: by_shell },
    Contender { name: "make -j, jq", keeps: "files, not synced", needs: &["make", "jq"], command: by_make },
    Contender { name: "Python, sqlite3", keeps: "a row a step, synced", needs: &["python3"], command: by_python },
];

/// All of them, Downbeat first; each of them once a round.
pub(crate) fn measure(workshop: &Workshop) -> Result<Vec<Rival>> {
    let mut courses = CONTENDERS.iter().map(|contender| Course::of(workshop, contender)).collect::<Result<Vec<_>>>()?;
    for round in 0..=ROUNDS {
        for course in courses.iter_mut().filter(|course| course.missing.is_none()) {
            let (short, long) = (course.time(STEPS)?, course.time(STEPS + MORE_STEPS)?);
            // The first one compiles and fills caches.
            if round > 0 {
                course.ten_steps_ms.push(short * 1e3);
                course.step_us.push((long - short) * 1e6 / MORE_STEPS as f64);
            }
        }
    }
    Ok(courses.into_iter().map(Course::finish).collect())
}

/// A contender in its folder, and its times so far.
struct Course {
    contender: &'static Contender,
    folder: PathBuf,
    missing: Option<&'static str>,
    ten_steps_ms: Vec<f64>,
    step_us: Vec<f64>,
}

impl Course {
    fn of(workshop: &Workshop, contender: &'static Contender) -> Result<Course> {
        let folder = workshop.folder(contender.name)?;
        std::fs::write(folder.join("0.json"), document())?;
        std::fs::copy(&workshop.component, folder.join("echo.wasm"))?;
        let missing = contender.needs.iter().find(|program| find(program).is_none()).copied();
        Ok(Course { contender, folder, missing, ten_steps_ms: Vec::new(), step_us: Vec::new() })
    }

    /// Goes so many steps; gives the seconds that it took, if the result is right.
    fn time(&self, steps: usize) -> Result<f64> {
        let name = self.contender.name;
        let mut command = (self.contender.command)(&self.folder, steps)?;
        command.current_dir(&self.folder).stdin(Stdio::null());
        let started = Instant::now();
        let output = command.output().with_context(|| format!("{name} can't be started"))?;
        let took = started.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {}: {said}", output.status);
        let result: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{name}: {}", String::from_utf8_lossy(&output.stdout)))?;
        ensure!(result["n"] == steps, "{name} counted to {} in {steps} steps", result["n"]);
        Ok(took)
    }

    fn finish(self) -> Rival {
        let Contender { name, keeps, .. } = self.contender;
        let (cost, note) = match self.missing {
            Some(program) => (None, format!("there is no {program} on this machine")),
            None => {
                let (ten_steps_ms, step_us) = (median(self.ten_steps_ms), median(self.step_us));
                (Some(Cost { ten_steps_ms, step_us }), String::new())
            }
        };
        Rival { name: (*name).into(), keeps: (*keeps).into(), cost, note }
    }
}

/// A kibibyte with a number in it.
fn document() -> String {
    format!(r#"{{"n":0,"text":"{}"}}"#, guest::text())
}

fn by_downbeat(folder: &Path, steps: usize) -> Result<Command> {
    let workflow = folder.join(format!("count-{steps}.toml"));
    std::fs::write(&workflow, guest::count(steps))?;
    let mut command = Command::new(downbeat()?);
    command.arg("run").arg(workflow).args(["--inputs", "0.json", "--state", "state", "--cache", "cache"]);
    Ok(command)
}

fn by_shell(folder: &Path, steps: usize) -> Result<Command> {
    let mut script = String::from("set -e\n");
    for step in 0..steps {
        writeln!(script, "jq -c '.n += 1' <{step}.json >{}.json", step + 1)?;
    }
    writeln!(script, "cat {steps}.json")?;
    let path = folder.join(format!("count-{steps}.sh"));
    std::fs::write(&path, script)?;
    let mut command = Command::new("sh");
    command.arg(path);
    Ok(command)
}

fn by_make(folder: &Path, steps: usize) -> Result<Command> {
    let mut makefile = format!("all: {steps}.json\n\t@cat {steps}.json\n");
    for step in 0..steps {
        write!(makefile, "{0}.json: {step}.json\n\t@jq -c '.n += 1' <{step}.json >{0}.json\n", step + 1)?;
        // Nothing is up to date.
        let made = folder.join(format!("{}.json", step + 1));
        if made.exists() {
            std::fs::remove_file(made)?;
        }
    }
    let path = folder.join(format!("count-{steps}.mk"));
    std::fs::write(&path, makefile)?;
    let mut command = Command::new("make");
    command.arg("-j").arg("-f").arg(path);
    // This may itself run under make, whose jobs are none of this one's business.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    Ok(command)
}

fn by_python(folder: &Path, steps: usize) -> Result<Command> {
    let path = folder.join("count.py");
    std::fs::write(&path, include_str!("../rivals/count.py"))?;
    let mut command = Command::new(python()?);
    command.arg("-I").arg(path).arg(steps.to_string());
    Ok(command)
}

/// The interpreter itself: what is found first may be a script that looks for it.
fn python() -> Result<PathBuf> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    ensure!(output.status.success(), "python3: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
