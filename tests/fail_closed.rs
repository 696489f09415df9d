//! What happens when the guard cannot do its work: nothing runs unguarded, and no
//! install is reported as a success.

mod harness;

use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Site, users};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn alive(marker: &str) -> bool {
    let out = std::process::Command::new("pgrep").args(["-f", marker]).output().expect("pgrep");
    !out.stdout.is_empty()
}

fn wait_for(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_killed_supervisor_leaves_nothing_running() {
    for (round, user) in users().into_iter().cycle().take(6).enumerate() {
        let mut site = Site::of(user);
        let marker = format!("sleep 7{round}.31{}", std::process::id());
        site.package("slow", &format!("echo up > up; setsid {marker} & {marker}"));
        let mut child = site
            .command(&["install", "--", "--no-audit"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        assert!(wait_for(|| alive(&marker)), "the script runs");
        std::thread::sleep(Duration::from_millis(10 * round as u64));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("kill");
        let status = child.wait().expect("wait");
        assert!(!status.success());
        assert!(wait_for(|| !alive(&marker)), "{user:?}: the script's processes are gone");
        assert!(wait_for(|| !alive(&site.path("app").display().to_string())), "npm is gone");
    }
}

#[test]
fn kills_at_random_moments_never_leave_a_process_or_a_success() {
    for round in 0..12u64 {
        let mut site = Site::new();
        let marker = format!("sleep 8{round}.77{}", std::process::id());
        site.package("slow", &format!("node -e 0; sh -c '{marker} & {marker}'"));
        let mut child = site
            .command(&["install", "--", "--no-audit"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_millis(round * 83 % 900));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("kill");
        assert!(!child.wait().expect("wait").success());
        assert!(
            wait_for(|| !alive(&marker) && !alive(&site.path("app").display().to_string())),
            "round {round}"
        );
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_the_run_before_scripts() {
    for (log, why) in
        [("/dev/full", "No space"), ("/nonexistent-dir/x.jsonl", "nonexistent-dir"), ("/proc/x", "proc")]
    {
        let mut site = Site::new();
        site.package("p", "echo ran > ran");
        let output = site.command(&["install", "--log", log, "--", "--no-audit"]).output().expect("starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{log}: {stderr}");
        assert!(stderr.contains(why), "{log}: {stderr}");
        assert!(!site.path("app/node_modules/p").exists(), "nothing was installed");
    }
}

#[test]
fn a_log_that_fills_up_fails_the_run_with_the_count() {
    if !harness::is_root() {
        return;
    }
    let mut site = Site::new();
    site.package("p", "for i in 1 2 3 4 5 6 7 8 9; do node -e \"try{fs.readFileSync('/root/x$i')}catch{}; fs.readdirSync('/etc')\"; cat ~/.npmrc ~/.bashrc ~/.ssh/id_ed25519; /bin/echo $i; done; true");
    let small = site.path("small");
    std::fs::create_dir(&small).expect("a directory");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8k", "none"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("no tmpfs can be mounted here");
        return;
    }
    let log = small.join("log.jsonl");
    let output = site
        .command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit"])
        .output()
        .expect("starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let _ = std::process::Command::new("umount").arg(&small).status();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("could not be written"), "{stderr}");
}

#[test]
fn signals_to_npmguard_end_the_install_and_its_scripts() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut site = Site::new();
        let marker = format!("sleep 9{}.5{}", signal as i32, std::process::id());
        site.package("slow", &marker);
        let log = site.path("home/log.jsonl");
        let child = site
            .command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        assert!(wait_for(|| alive(&marker)));
        let began = Instant::now();
        kill(Pid::from_raw(child.id() as i32), signal).expect("kill");
        let output = child.wait_with_output().expect("wait");
        let run = site.outcome(&output, &log);
        assert_ne!(run.code, 0);
        assert!(
            run.code == code || run.code == 1,
            "npm's own code for {signal}: {} {}",
            run.code,
            run.stderr
        );
        assert!(began.elapsed() < Duration::from_secs(20), "npm that does not end is ended");
        assert!(!alive(&marker));
        assert_eq!(run.log.last().expect("a log")["kind"], "run_end", "the log is complete");
    }
}

#[test]
fn without_landlock_the_run_stops_unless_the_user_says_otherwise() {
    let mut site = Site::new();
    site.env("NPMGUARD_TEST_LANDLOCK_ABI", "0");
    site.package(
        "p",
        "cat ~/.npmrc > loot; echo fine > fine; mkdir d && mv fine d/ && chmod 600 d/fine; true",
    );
    let run = site.guard(&["install", "--", "--no-audit"]);
    run.assert_code(125);
    assert!(run.stderr.contains("--allow-degraded landlock"), "{}", run.stderr);
    assert!(!site.path("app/node_modules/p").exists());
    let run = site.guard(&["install", "--allow-degraded", "landlock", "--", "--no-audit"]);
    run.assert_code(9);
    assert_eq!(
        site.read("app/node_modules/p/loot").as_deref(),
        Some(""),
        "the supervisor keeps G1 by itself"
    );
    assert_eq!(site.read("app/node_modules/p/d/fine").as_deref(), Some("fine\n"), "{}", run.stderr);
    run.assert_denied("p", ".npmrc");
    assert!(run.log[0]["detail"]["layers"].to_string().contains("degraded"));
}

#[test]
fn older_landlock_levels_keep_the_guarantees() {
    for abi in ["3", "4", "5", "6"] {
        let mut site = Site::new();
        site.env("NPMGUARD_TEST_LANDLOCK_ABI", abi);
        site.package("p", "cat ~/.npmrc > loot; kill -0 1; echo x >> ~/.bashrc; node -e \"net.connect(443,'192.0.2.1').on('error',e=>fs.writeFileSync('net',e.code))\"; true");
        let run = site.install();
        assert_eq!(site.read("app/node_modules/p/loot").as_deref(), Some(""), "ABI {abi}");
        assert_eq!(site.read("app/node_modules/p/net").as_deref(), Some("EACCES"), "ABI {abi}");
        run.assert_denied("p", ".npmrc");
        run.assert_denied("p", "signal pid 1");
        run.assert_denied("p", ".bashrc");
    }
}
