//! What scripts may execute, and that every start is on record.

mod harness;

use harness::{Site, users};
use serde_json::json;

#[test]
fn every_start_is_logged_with_its_arguments_and_chain() {
    let mut site = Site::new();
    site.package("p", "uname -s > out; node -e 0; nothing-of-that-name; true");
    let run = site.install();
    run.assert_quiet("p");
    let execs = run.events("exec", "p", "*");
    let line: Vec<String> = execs.iter().map(|e| e["process"]["argv"].to_string()).collect();
    assert!(line.iter().any(|l| l.contains("\"uname\",\"-s\"")), "{line:?}");
    assert!(line.iter().any(|l| l.contains("\"node\",\"-e\",\"0\"")), "{line:?}");
    assert!(
        !line.iter().any(|l| l.contains("nothing-of-that-name") && !l.contains("-c")),
        "failed searches are silent: {line:?}"
    );
    let uname = execs
        .iter()
        .find(|e| e["target"]["path"].as_str().is_some_and(|p| p.ends_with("/uname")))
        .expect("uname");
    assert_eq!(uname["syscall"], "execve");
    assert_eq!(uname["process"]["chain"][0], "sh");
    assert_eq!(uname["package"]["version"], "1.0.0");
    assert_eq!(uname["script"]["event"], "postinstall");
}

#[test]
fn programs_dropped_outside_the_package_do_not_run() {
    for user in users() {
        let mut site = Site::of(user);
        site.package(
            "p",
            "cp /bin/true $TMPDIR/dropped && ($TMPDIR/dropped && echo tmp >> ran); cp /bin/true ./mine && ./mine && echo mine >> ran; \
             cp /bin/true /dev/shm/npmguard-test-x 2>/dev/null && echo shm >> ran; true",
        );
        let run = site.install();
        assert_eq!(site.read("app/node_modules/p/ran").as_deref(), Some("mine\n"), "{user:?} {}", run.stderr);
        run.assert_denied("p", "exec");
        run.assert_denied("p", "/dropped");
        run.assert_denied("p", "/dev/shm/npmguard-test-x");
    }
}

#[test]
fn denied_programs_are_refused_by_the_kernel_under_every_name() {
    for user in users() {
        let mut site = Site::of(user);
        site.write(
            "app/npmguard.yaml",
            "version: 1\nscripts:\n  exec: { deny: [\"/usr/bin/uptime\", \"/bin/uptime\"] }\n",
        );
        // The race: by the time the kernel reads the path, it is another one.
        site.package(
            "p",
            "ln -s /usr/bin/uptime up; for p in uptime /usr/bin/uptime /bin/uptime ./up /proc/self/root/usr/bin/uptime; do $p >/dev/null 2>&1 && echo $p >> ran; done; true",
        );
        let run = site.install();
        assert_eq!(site.read("app/node_modules/p/ran"), None, "{user:?} {}", run.stderr);
        run.assert_denied("p", "exec");
        assert!(run.denied("p").iter().all(|t| t.ends_with("/uptime")), "{:?}", run.denied("p"));
    }
}

#[test]
fn a_swapped_path_does_not_start_a_denied_program() {
    let mut site = Site::new();
    site.write("app/npmguard.yaml", "version: 1\nscripts:\n  exec: { deny: [\"/usr/bin/uptime\"] }\n");
    let c = r#"
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <stdio.h>
static char *path;
static volatile int stop;
static void *flip(void *x) { for (;;) { memcpy(path, "/usr/bin/true\0\0\0", 16); __asm__ volatile("" ::: "memory"); memcpy(path, "/usr/bin/uptime", 16); __asm__ volatile("" ::: "memory"); } }
int main(void) {
  path = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fork() == 0) { flip(0); }
  int evil = 0, fine = 0;
  for (int i = 0; i < 400; i++) {
    int p[2]; pipe(p);
    int pid = vfork();
    if (!pid) { char *a[] = { "x", 0 }, *e[] = { 0 }; dup2(p[1], 1); execve(path, a, e); _exit(99); }
    close(p[1]); char b; int n = read(p[0], &b, 1); close(p[0]);
    int s; waitpid(pid, &s, 0);
    if (n == 1) evil++; else if (WIFEXITED(s) && WEXITSTATUS(s) == 0) fine++;
  }
  FILE *f = fopen("out", "w"); fprintf(f, "%d %d\n", evil, fine > 0); fclose(f);
  return 0;
}
"#;
    site.package_with(
        "p",
        json!({ "scripts": { "postinstall": "cc -O1 -w -o race race.c -lpthread && ./race" } }),
        &[("race.c", c)],
    );
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("0 1\n"), "{}", run.stderr);
}

#[test]
fn in_memory_deleted_and_loader_starts_are_refused() {
    let mut site = Site::new();
    let py = r"
import os
out=[]
def child(f):
    pid=os.fork()
    if pid==0:
        try: f()
        except OSError as e: os._exit(e.errno)
        os._exit(0)
    out.append(os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))
try: os.memfd_create('x'); out.append(0)
except OSError as e: out.append(e.errno)
import shutil; shutil.copy('/bin/true','t'); fd=os.open('t',os.O_RDONLY); os.unlink('t')
child(lambda: os.execv('/proc/self/fd/%d'%fd,['t']))
shutil.copy('/bin/true','data'); os.chmod('data',0o644)
import glob
ld=glob.glob('/lib64/ld-linux*')+glob.glob('/lib/ld-linux*')
child(lambda: os.execv(ld[0],['ld','./data']))
open('out','w').write(' '.join(map(str,out)))
";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("13 13 13"), "{}", run.stderr);
    assert_eq!(run.events("exec", "p", "denied").len(), 2);
    run.assert_denied("p", "process memfd_create");
}

#[test]
fn calls_that_leave_a_domain_are_refused_and_named() {
    for user in users() {
        let mut site = Site::of(user);
        let py = r"
import ctypes,os
libc=ctypes.CDLL(None,use_errno=True)
out=[]
def t(nr,*a):
    ctypes.set_errno(0); r=libc.syscall(nr,*a); out.append(ctypes.get_errno() if r<0 else 0)
t(425,8,0)            # io_uring_setup
t(272,0x10000000)     # unshare(NEWUSER)
t(101,0,os.getppid(),0,0)  # ptrace
t(311,os.getppid(),0,0,0,0,0) # process_vm_writev
t(323,1)              # userfaultfd
t(321,0,0,0)          # bpf
t(250,0,0,0)          # keyctl
t(165,0,0,0,0,0)      # mount
t(161,b'/')           # chroot
t(435,0,0)            # clone3
t(600)                # not yet invented
t(157,4,0,0,0,0)      # PR_SET_DUMPABLE 0 appears to work
t(317,1,8,0)          # a new listener
t(62,os.getppid(),0)  # kill within the domain: sh
t(62,1,0)             # kill outside
t(302,1,7,0,0)        # prlimit of others
open('out','w').write(' '.join(map(str,out)))
";
        site.package_with(
            "p",
            json!({ "scripts": { "postinstall": "python3 -B p.py; true" } }),
            &[("p.py", py)],
        );
        let run = site.install();
        let out = site.read("app/node_modules/p/out").expect("ran");
        if harness::is_filtered() {
            // A container's own filter answers first, and some of its errors differ.
            assert_eq!(out, "1 1 1 1 1 1 1 1 1 38 38 0 16 0 1 1", "{user:?} {}", run.stderr);
            continue;
        }
        assert_eq!(out, "38 1 1 1 1 1 38 1 1 38 38 0 16 0 1 1", "{user:?} {}", run.stderr);
        for name in [
            "io_uring_setup",
            "unshare",
            "ptrace",
            "process_vm_writev",
            "userfaultfd",
            "bpf",
            "keyctl",
            "mount",
            "chroot",
        ] {
            run.assert_denied("p", &format!("process {name}"));
        }
        run.assert_denied("p", "signal pid 1");
    }
}

#[test]
fn a_manager_that_starts_a_shell_by_itself_is_stopped_with_125() {
    for user in users() {
        let site = Site::of(user);
        site.manifest(json!({}));
        let rogue = "#!/usr/bin/env node\nrequire('child_process').spawnSync('/bin/sh', ['-c', 'touch rogue-ran']);\nsetTimeout(() => {}, 20000);\n";
        site.write("bin/npm", rogue);
        std::fs::set_permissions(site.path("bin/npm"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode");
        let log = site.path("home/log.jsonl");
        let mut command = site.command(&["npm", "--log", log.to_str().expect("UTF-8"), "ci"]);
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", site.path("bin").display()));
        let began = std::time::Instant::now();
        let output = command.output().expect("npmguard starts");
        let run = site.outcome(&output, &log);
        run.assert_code(125);
        assert!(began.elapsed().as_secs() < 15, "the manager was stopped");
        assert!(!site.path("app/rogue-ran").exists());
        assert!(run.stderr.contains("by itself"), "{}", run.stderr);
    }
}

#[test]
fn the_projects_own_programs_can_be_started_by_its_scripts() {
    for user in users() {
        let site = Site::of(user);
        site.write("app/tools/gen.sh", "#!/bin/sh\necho generated > made\n");
        site.write("app/secrets/.env", "#!/bin/sh\ntouch ran-env\n");
        for file in ["tools/gen.sh", "secrets/.env"] {
            std::fs::set_permissions(
                site.path("app").join(file),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .expect("mode");
        }
        site.manifest(json!({ "scripts": { "postinstall": "./tools/gen.sh; ./secrets/.env; true" } }));
        let run = site.install();
        assert_eq!(site.read("app/made").as_deref(), Some("generated\n"), "{user:?} {}", run.stderr);
        assert!(!site.path("app/ran-env").exists(), "a secret is no program");
    }
}

#[test]
fn a_program_made_where_the_kernel_cannot_follow_is_refused_and_explained() {
    let site = Site::new();
    site.manifest(json!({ "scripts": { "postinstall":
        "printf '#!/bin/sh\\ntouch ran\\n' > made.sh; chmod +x made.sh; ./made.sh; true" } }));
    let run = site.install();
    run.assert_denied("app", "exec");
    let event = run.events("exec", "app", "denied")[0];
    assert!(
        event["detail"]["why"].as_str().is_some_and(|why| why.contains("after its script began")),
        "{event}"
    );
    assert!(!site.path("app/ran").exists());
}
