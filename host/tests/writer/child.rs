//! Writer processes, their watchdog, and the node's lock, each with real second processes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, mkfifo};
use portwright_core::PciAddress;
use portwright_host::child::{ChildError, Command, Launcher};
use portwright_host::deadline::Deadline;
use portwright_host::lock::{LockError, WriterLock};
use portwright_host::root::Root;
use portwright_host::stuck;

pub(crate) const TESTS: [(&str, fn()); 6] = [
    ("commands_are_carried_out_in_order", commands_are_carried_out_in_order),
    ("a_refusal_names_file_and_errno", a_refusal_names_file_and_errno),
    ("a_write_that_blocks_is_left_and_others_go_on", a_write_that_blocks_is_left_and_others_go_on),
    ("a_writer_ends_with_its_parent", a_writer_ends_with_its_parent),
    ("a_writer_that_is_killed_is_an_error", a_writer_that_is_killed_is_an_error),
    ("the_lock_is_one_processs_and_names_it", the_lock_is_one_processs_and_names_it),
];

pub(crate) fn launcher() -> Launcher {
    Launcher::of(std::env::current_exe().unwrap())
}

fn write(path: &Path, text: &str) -> Command {
    Command::Write { path: path.to_owned(), text: text.to_owned() }
}

const SOON: Duration = Duration::from_secs(10);

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("sriov_numvfs");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

fn commands_are_carried_out_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("driver_override");
    fs::write(&file, "").unwrap();
    let mut writer = launcher().start().unwrap();
    writer.carry_out(&write(&file, "vfio-pci\n"), SOON).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "vfio-pci\n");
    writer.carry_out(&write(&file, "igbvf\n"), SOON).unwrap();
    assert!(fs::read_to_string(&file).unwrap().starts_with("igbvf\n"));
    let pid = writer.pid();
    drop(writer);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "an idle writer ends when it is dropped");
}

fn a_refusal_names_file_and_errno() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = launcher().start().unwrap();
    let absent = folder.path().join("absent");
    let error = writer.carry_out(&write(&absent, "1"), SOON).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert!(error.to_string().contains("absent: ENOENT"), "{error}");
    assert!(!absent.exists(), "a writer makes no files");
    // A refusal is no end: the next command is carried out.
    let error = writer.carry_out(&write(Path::new("/proc/self/oom_score_adj"), "x"), SOON).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "the kernel's own refusal of a value");
}

fn a_write_that_blocks_is_left_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new(folder.path());
    fs::create_dir(folder.path().join("run")).unwrap();
    std::os::unix::fs::symlink("/proc", folder.path().join("proc")).unwrap();
    let pf: PciAddress = "0000:3b:00.0".parse().unwrap();
    let path = fifo(folder.path());
    let mut writer = launcher().start().unwrap();
    let pid = writer.pid();
    // Nobody reads the FIFO: opening it for writing blocks, as the kernel's own write does.
    let error = writer.carry_out(&write(&path, "0"), Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, ChildError::Stuck { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {pid}")) && text.contains("sriov_numvfs"), "{text}");
    assert!(!writer.has_ended());

    stuck::mark(&root, pf, pid, "writing `0` to sriov_numvfs".to_owned()).unwrap();
    let said = stuck::look(&root, pf).unwrap();
    assert!(said.contains(&format!("pid {pid}")) && said.contains("sriov_numvfs"), "{said}");
    assert!(!stuck::clear(&root, pf).unwrap());

    // The other PF's writer does not notice.
    let other = folder.path().join("other");
    fs::write(&other, "").unwrap();
    launcher().start().unwrap().carry_out(&write(&other, "7"), SOON).unwrap();

    // The holder lets go: the write returns, the writer finds its input closed and ends, the PF is free again.
    let mut reader = fs::File::open(&path).unwrap();
    let mut written = String::new();
    reader.read_to_string(&mut written).unwrap();
    assert_eq!(written, "0");
    assert!(writer.wait_for_end(Deadline::after(SOON)));
    assert_eq!(stuck::look(&root, pf), None);
    assert!(stuck::clear(&root, pf).unwrap());
    assert!(!folder.path().join(stuck::FOLDER).join(pf.to_string()).exists());
}

/// A parent that starts a writer, sees it stuck, says its pid and then waits to be killed.
pub(crate) fn parent_of_a_stuck_writer(file: &Path) {
    let mut writer = launcher().start().unwrap();
    let error = writer.carry_out(&write(file, "0"), Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, ChildError::Stuck { .. }), "{error}");
    println!("{}", writer.pid());
    let mut forever = String::new();
    std::io::stdin().read_line(&mut forever).unwrap();
}

fn a_writer_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    // Orphans become ours, so that the writer's end can be waited for.
    set_child_subreaper(true).unwrap();
    let mut parent = Process::new(std::env::current_exe().unwrap())
        .arg("__parent")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let writer = Pid::from_raw(line.trim().parse().unwrap());
    kill(Pid::from_raw(i32::try_from(parent.id()).unwrap()), Signal::SIGKILL).unwrap();
    parent.wait().unwrap();
    assert!(Path::new(&format!("/proc/{writer}")).exists(), "its write still blocks");
    let mut written = String::new();
    fs::File::open(&path).unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(written, "0");
    assert_eq!(waitpid(writer, None).unwrap(), WaitStatus::Exited(writer, 0));
}

fn a_writer_that_is_killed_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = launcher().start().unwrap();
    kill(Pid::from_raw(i32::try_from(writer.pid()).unwrap()), Signal::SIGKILL).unwrap();
    let error = writer.carry_out(&write(&folder.path().join("x"), "1"), SOON).unwrap_err();
    assert!(matches!(error, ChildError::Ended { .. }), "{error}");
}

pub(crate) fn holder_of_the_lock(root: &str) {
    let _lock = WriterLock::take(&Root::new(root)).unwrap();
    println!("locked");
    let mut forever = String::new();
    std::io::stdin().read_line(&mut forever).unwrap();
}

fn the_lock_is_one_processs_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    std::os::unix::fs::symlink("/proc", folder.path().join("proc")).unwrap();
    let root = Root::new(folder.path());
    let mut holder = Process::new(std::env::current_exe().unwrap())
        .arg("__holder")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    let error = WriterLock::take(&root).unwrap_err();
    let LockError::Held { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(holder.id()));
    let text = error.to_string();
    assert!(text.contains(&format!("pid {}", holder.id())) && text.contains("__holder"), "{text}");
    assert!(error.hint().is_some());
    // However it ends, the lock is free.
    kill(Pid::from_raw(i32::try_from(holder.id()).unwrap()), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let ours = WriterLock::take(&root).unwrap();
    assert!(matches!(WriterLock::take(&root), Err(LockError::Held { .. })));
    drop(ours);
    WriterLock::take(&root).unwrap();
}
