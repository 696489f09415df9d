//! What the built-in policies promise: each of the guarantees G1 to G6 that policy
//! alone decides, and that nothing which honest packages need is taken away.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use npmguard::policy::{FailOn, Grant, Mode, PathAction, Profile, Subject, Verdict, show, show_groups};
use policy_support::{default_policy, dependency, policy, profile, root, unverified, vars, verdict};

use PathAction::{Exec, Read, Write};
use Verdict::{Allow, Deny, Log};

fn expect(profile: &Profile, action: PathAction, expected: Verdict, paths: &str) {
    for path in paths.split_whitespace() {
        let decision = profile.decide_path(action, Path::new(path));
        assert_eq!(decision.verdict, expected, "{action} {path}: {}", decision.rule);
    }
}

const PACKAGE: &str = "/home/u/app/node_modules/left-pad";

#[test]
fn every_preset_loads_and_gives_every_subject_a_profile() {
    for preset in ["default", "strict", "audit"] {
        let policy = policy(&format!("version: 1\nextends: {preset}\n"));
        for subject in [dependency("x"), unverified("x"), root(), Subject::Manager] {
            profile(&policy, &subject);
            assert!(show(&policy, &subject, &vars()).unwrap().contains("preset:"));
        }
    }
    assert_eq!(default_policy().mode(), Mode::Enforce);
    assert_eq!(default_policy().fail_on(), [FailOn::Denied]);
    assert_eq!(policy("version: 1\nextends: audit\n").mode(), Mode::Audit);
    assert!(show_groups().contains("{network-tools}"));
}

#[test]
fn g1_a_script_reads_the_system_node_modules_and_its_own_directory() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    expect(
        &script,
        Read,
        Allow,
        "\
        /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/include/stdio.h /lib64/ld-linux-x86-64.so.2 /etc/passwd \
        /etc/ld.so.cache /etc/nsswitch.conf /etc/ssl/certs/ca-certificates.crt /etc/some.conf /dev/null \
        /dev/urandom /dev/tty /sys/fs/cgroup/cpu.max /proc/self/maps /proc/self/fd /proc/cpuinfo \
        /proc/meminfo /proc /proc/sys/vm/overcommit_memory /home/u/.nvm/node/v24/lib/node_modules/npm/x.js \
        /home/u/.nvm/node/v24/include/node/node.h /home/u/.nvm/node/v24 /home/u/.cache/headers/v24/node.h \
        /home/u/app /home/u/app/package.json /home/u/app/package-lock.json /home/u/app/node_modules \
        /home/u/app/node_modules/other/index.js /tmp/npmguard-1/x /run/systemd/resolve/stub-resolv.conf \
        /home/u/app/node_modules/left-pad/index.js /usr/local/share/x",
    );
    expect(
        &script,
        Read,
        Deny,
        "\
        /home/u /home/u/.npmrc /home/u/.ssh/id_ed25519 /home/u/.aws/credentials /home/u/.gitconfig \
        /home/u/.bash_history /home/u/app/.env /home/u/app/.env.local /home/u/app/.npmrc \
        /home/u/app/src/a.ts /home/u/app/.git/config /home/u/other/package.json /proc/1/environ \
        /proc/4242/cmdline /proc/kcore /proc/kallsyms /tmp /tmp/other /dev/shm/x /dev/sda /dev/mem \
        /run/docker.sock /run/user/1000/bus /run/secrets/kubernetes.io/serviceaccount/token \
        /var/run/secrets/x /var/log/syslog /root/.ssh/id_rsa /etc/shadow /etc/shadow- /etc/gshadow \
        /etc/sudoers /etc/sudoers.d/x /etc/ssh/ssh_host_rsa_key /etc/ssl/private/k.pem /etc/npmrc \
        /usr/etc/npmrc /usr/local/etc/npmrc /home/u/.nvm/node/v24/etc/npmrc /etc/kubernetes/admin.conf \
        /home/u/app/../.npmrc relative",
    );
    expect(
        &script,
        Read,
        Log,
        "\
        /proc/self/environ /proc/self/mem /proc/self/task/7/environ",
    );
}

#[test]
fn g1_protected_names_inside_a_dependency_still_install() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    for name in [".env", ".env.example", ".npmrc", ".git/config", ".ssh/id_rsa", "test/fixtures/key.pem"] {
        for action in [Read, Write] {
            assert_eq!(verdict(&script, action, &format!("{PACKAGE}/{name}")), Allow, "{action} {name}");
        }
    }
}

#[test]
fn g2_a_script_writes_its_own_directory_and_its_temporary_one() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    expect(
        &script,
        Write,
        Allow,
        "\
        /home/u/app/node_modules/left-pad /home/u/app/node_modules/left-pad/build/Release/x.node \
        /tmp/npmguard-1 /tmp/npmguard-1/a/b /dev/null /dev/tty /proc/self/comm /proc/self/task/9/comm",
    );
    expect(
        &script,
        Write,
        Deny,
        "\
        /home/u/app/node_modules/other/index.js /home/u/app/node_modules/.bin/x /home/u/app/package.json \
        /home/u/app/.git/hooks/pre-commit /home/u/.bashrc /home/u/.npmrc /tmp/x /etc/x /usr/lib/x \
        /home/u/app/node_modules/left-pad-2/x /proc/self/mem /dev/sda /home/u/.nvm/node/v24/bin/node \
        /home/u/app/npmguard.yaml /home/u/.cache/x /",
    );
}

#[test]
fn exec_has_what_builds_need_and_not_what_exfiltrates() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    for name in "\
        node sh bash env sed grep awk which make cc gcc g++ as ld ar ranlib git ldd pkg-config pg_config npm \
        npx uname cat unknown-tool"
        .split_whitespace()
    {
        assert_eq!(verdict(&script, Exec, &format!("/usr/bin/{name}")), Allow, "{name}");
    }
    expect(
        &script,
        Exec,
        Allow,
        "\
        /usr/lib/gcc/x86_64-linux-gnu/13/cc1plus /usr/libexec/gcc/x86_64-linux-gnu/13/collect2 /bin/sh \
        /opt/tool/bin/x /home/u/app/node_modules/.bin/node-gyp /home/u/app/node_modules/esbuild/bin/esbuild \
        /home/u/.nvm/node/v24/bin/node /home/u/app/node_modules/left-pad/install.sh",
    );
    expect(
        &script,
        Exec,
        Log,
        "\
        /usr/bin/python3 /usr/bin/perl /usr/bin/tar /bin/gzip /usr/bin/ps",
    );
    for name in "\
        curl wget nc ncat nc.openbsd socat ssh scp sudo su pkexec aws gcloud az gh docker podman kubectl \
        crontab at batch systemctl trufflehog gitleaks claude gemini codex shutdown reboot gpg tmux"
        .split_whitespace()
    {
        for dir in ["/usr/bin", "/bin", "/usr/local/bin", "/home/u/bin"] {
            assert_eq!(verdict(&script, Exec, &format!("{dir}/{name}")), Deny, "{dir}/{name}");
        }
        assert!(!script.covered(Exec, Path::new(&format!("/usr/bin/{name}"))), "{name}");
    }
    expect(
        &script,
        Exec,
        Deny,
        "\
        /tmp/x /tmp/npmguard-1/x /dev/shm/x /home/u/x /home/u/app/x /proc/self/exe",
    );
}

#[test]
fn g3_and_g4_a_script_reaches_nothing() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    for addr in ["127.0.0.1:80", "10.0.0.1:80", "1.2.3.4:443", "[::1]:1", "[2001:db8::1]:443"] {
        let decision = script.decide_address(addr.parse().unwrap());
        assert_eq!((decision.verdict, &*decision.rule.pointer), (Deny, "scripts.connect.default"), "{addr}");
        assert_eq!(decision.rule.source, "preset:default");
        assert!(decision.rule.line > 1);
    }
    assert_eq!(script.decide_host("example.test", 443).decision.verdict, Deny);
    for socket in ["/run/docker.sock", "/run/user/1000/bus", "/tmp/npmguard-1/own.sock", "relative"] {
        assert_eq!(script.decide_unix(Path::new(socket)).verdict, Deny, "{socket}");
    }
}

const SECRET_NAMES: &str = "\
    NPM_TOKEN NODE_AUTH_TOKEN npm_config__auth NPM_CONFIG__AUTH npm_config__authToken \
    npm_config__password npm_config_//registry.example.test/:_authToken NPM_CONFIG_//R.TEST/:_PASSWORD \
    npm_config_otp npm_config_key npm_config_username YARN_NPM_AUTH_TOKEN YARN_NPM_AUTH_IDENT \
    BUN_AUTH_TOKEN GITHUB_TOKEN GH_TOKEN GH_ENTERPRISE_TOKEN GITLAB_TOKEN CI_JOB_TOKEN CI_JOB_JWT \
    CI_REPOSITORY_URL ACTIONS_RUNTIME_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL AWS_ACCESS_KEY_ID \
    AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AZURE_CLIENT_SECRET ARM_CLIENT_SECRET \
    GOOGLE_APPLICATION_CREDENTIALS GCLOUD_PROJECT DIGITALOCEAN_ACCESS_TOKEN CLOUDFLARE_API_KEY \
    CF_API_TOKEN HEROKU_API_KEY VAULT_TOKEN VAULT_ADDR OP_SESSION_my BW_SESSION SSH_AUTH_SOCK \
    SSH_AGENT_PID DBUS_SESSION_BUS_ADDRESS GPG_AGENT_INFO GNUPGHOME KUBECONFIG DOCKER_HOST \
    DOCKER_AUTH_CONFIG DATABASE_URL MY_DATABASE_URL REDIS_URL MONGODB_URI SENTRY_DSN PGPASSWORD \
    PGPASSFILE MYSQL_PWD DB_PASS MY_PASSWORD SUDO_PASSWD SSH_KEY_PASSPHRASE OPENAI_API_KEY \
    ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN HF_TOKEN GEMINI_API_KEY STRIPE_SECRET_KEY TWILIO_AUTH_TOKEN \
    SLACK_WEBHOOK_URL SIGNING_KEY PRIVATE_KEY my_private_key JWT_SECRET COOKIE_SECRET SECRET PASSWORD \
    TOKEN token GH_PAT CARGO_REGISTRY_TOKEN TWINE_PASSWORD PIP_INDEX_URL COMPOSER_AUTH TF_VAR_password \
    HTTP_PROXY https_proxy npm_config_https_proxy GIT_ASKPASS GIT_CONFIG_VALUE_0 XAUTHORITY \
    WALLET_MNEMONIC KRB5CCNAME TURBO_TOKEN VERCEL_TOKEN NX_CLOUD_ACCESS_TOKEN SNYK_TOKEN CODECOV_TOKEN \
    npm_token";

const HONEST_NAMES: &str = "\
    PATH HOME USER LOGNAME SHELL TERM TMPDIR TMP LANG LC_ALL LC_CTYPE TZ PWD OLDPWD NODE NODE_ENV \
    NODE_PATH NODE_OPTIONS CI INIT_CWD COLOR EDITOR SHLVL _ HOSTNAME DISPLAY npm_package_name \
    npm_package_version npm_package_json npm_package_config_token npm_package_config_secret_key \
    npm_package_bin_js-tokens npm_package_engines_node npm_package_resolved npm_package_integrity \
    npm_lifecycle_event npm_lifecycle_script npm_command npm_execpath npm_node_execpath \
    npm_config_nodedir npm_config_node_gyp npm_config_target npm_config_runtime npm_config_arch \
    npm_config_platform npm_config_disturl npm_config_build_from_source npm_config_python \
    npm_config_cache npm_config_registry npm_config_user_agent npm_config_prefix npm_config_userconfig \
    npm_config_globalconfig npm_config_noproxy npm_config_loglevel npm_config_sharp_binary_host \
    npm_config_sqlite3_binary_site npm_config_libc npm_config_jobs NPM_CONFIG_NODEDIR CC CXX CFLAGS \
    CXXFLAGS LDFLAGS MAKEFLAGS MAKELEVEL V JOBS PYTHON PKG_CONFIG_PATH CMAKE_BUILD_PARALLEL_LEVEL \
    GYP_DEFINES GITHUB_ACTIONS GITHUB_WORKSPACE GITLAB_CI CIRCLECI TRAVIS BUILDKITE NO_PROXY no_proxy \
    SSL_CERT_FILE NODE_EXTRA_CA_CERTS SOURCE_DATE_EPOCH XDG_CACHE_HOME XDG_SESSION_ID DESKTOP_SESSION \
    PUPPETEER_SKIP_DOWNLOAD CYPRESS_INSTALL_BINARY ELECTRON_MIRROR HUSKY SHARP_IGNORE_GLOBAL_LIBVIPS \
    SENTRYCLI_CDNURL PRISMA_ENGINES_MIRROR TOKENIZERS_PARALLELISM ADBLOCK DISABLE_OPENCOLLECTIVE \
    RES_OPTIONS FORCE_COLOR MONKEY KEYBOARD AUTHOR COMPASS PROTOCOL_BUFFERS GOOGLE_CHROME_BIN VERCEL \
    JAVA_HOME ANDROID_HOME RUSTUP_HOME CARGO_HOME GOPATH VIRTUAL_ENV";

#[test]
fn g5_a_script_sees_no_variable_that_carries_a_credential() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    for name in SECRET_NAMES.split_whitespace() {
        let decision = script.decide_env(OsStr::new(name));
        assert_eq!(decision.verdict, Deny, "{name}");
        assert_eq!(decision.rule.pointer, "scripts.env.deny[0]");
    }
    for name in HONEST_NAMES.split_whitespace() {
        assert_eq!(script.decide_env(OsStr::new(name)).verdict, Allow, "{name}");
    }
    assert_eq!(script.decide_env(OsStr::new("LD_PRELOAD")).verdict, Log);
    let strict = profile(&policy("version: 1\nextends: strict\n"), &dependency("left-pad"));
    for name in SECRET_NAMES.split_whitespace().chain(["NODE_OPTIONS", "SOME_UNKNOWN_NAME"]) {
        assert_eq!(strict.decide_env(OsStr::new(name)).verdict, Deny, "{name}");
    }
    for name in ["PATH", "HOME", "LC_ALL", "npm_package_name", "npm_config_nodedir", "CXXFLAGS"] {
        assert_eq!(strict.decide_env(OsStr::new(name)).verdict, Allow, "{name}");
    }
}

#[test]
fn the_kernel_is_given_the_hot_trees_and_never_proc() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    for path in "\
        /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/share/x /usr/local/lib/x /lib64/ld-linux-x86-64.so.2 \
        /etc/ld.so.cache /etc/ssl/certs/x.pem /etc/passwd /home/u/app/node_modules/a/b.js /tmp/npmguard-1/x \
        /dev/null /home/u/.nvm/node/v24/lib/node_modules/npm/x.js /home/u/app/package.json \
        /usr/include/stdio.h"
        .split_whitespace()
    {
        assert!(script.covered(Read, Path::new(path)), "{path}");
    }
    // Allowed, but to be listed only, or with a denied part somewhere in the tree: decided call by call.
    for path in "\
        /home/u/app /etc/some.conf /usr/etc/x /home/u/.nvm/node/v24/README.md /proc/self/maps /proc /sys/kernel/x"
        .split_whitespace()
    {
        assert_eq!(verdict(&script, Read, path), Allow, "{path}");
        assert!(!script.covered(Read, Path::new(path)), "{path}");
    }
    let all = script.kernel_grants();
    for grant in all.read.iter().chain(&all.write).chain(&all.exec) {
        let (Grant::Tree(path) | Grant::File(path) | Grant::Dir(path)) = grant;
        assert!(path.is_absolute() && !path.starts_with("/proc"), "{grant:?}");
        assert!(path != Path::new("/") || matches!(grant, Grant::Dir(_)), "the root may be listed, no more");
    }
    assert!(all.read.contains(&Grant::Dir("/home/u/app".into())));
    assert!(all.write.contains(&Grant::Tree(PACKAGE.into())));
    assert!(
        all.read.len() < 150 && all.write.len() < 20 && all.exec.len() < 100,
        "{} {}",
        all.read.len(),
        all.exec.len()
    );
}

#[test]
fn the_projects_own_scripts_build_the_project_and_do_not_see_its_secrets() {
    let mut vars = vars();
    vars.package = vars.project.clone();
    let own = default_policy().profile(&root(), &vars).unwrap();
    expect(
        &own,
        Read,
        Allow,
        "\
        /home/u/app/src/index.ts /home/u/app/.git/HEAD /home/u/app/.env.example \
        /home/u/app/packages/a/.env.sample /home/u/app/node_modules/x/.env \
        /home/u/app/node_modules/x/key.pem /usr/bin/git /home/u/app/dist/x.js /home/u/app/environment.ts",
    );
    expect(
        &own,
        Read,
        Deny,
        "\
        /home/u/app/.env /home/u/app/.env.local /home/u/app/packages/a/.env /home/u/app/.npmrc \
        /home/u/app/server.key /home/u/app/certs/tls.pem /home/u/app/.git/config /home/u/.npmrc \
        /home/u/.ssh/id_rsa /home/u/app/id_rsa /home/u/app/service-account.json /etc/shadow \
        /home/u/app/.aws/credentials",
    );
    expect(
        &own,
        Write,
        Allow,
        "\
        /home/u/app/src/generated.ts /home/u/app/dist/x.js /home/u/app/node_modules/.cache/x \
        /home/u/app/public/sw.js /home/u/app/package.json /tmp/npmguard-1/x /home/u/app/node_modules/x/.env",
    );
    expect(
        &own,
        Write,
        Deny,
        "\
        /home/u/app/.git/config /home/u/app/.git/hooks/pre-commit /home/u/app/.github/workflows/ci.yml \
        /home/u/app/.gitlab-ci.yml /home/u/app/.vscode/tasks.json /home/u/app/.idea/x \
        /home/u/app/.husky/_/pre-commit /home/u/app/.npmrc /home/u/app/npmguard.yaml \
        /home/u/app/npmguard.yml /home/u/app/.npmguard/lock /home/u/app/.mcp.json \
        /home/u/app/.claude/settings.json /home/u/app/.env /home/u/app/CLAUDE.md /home/u/.bashrc",
    );
    assert_eq!(own.decide_address("1.2.3.4:443".parse().unwrap()).verdict, Deny);
    assert_eq!(own.decide_env(OsStr::new("NPM_TOKEN")).verdict, Deny);
    assert_eq!(verdict(&own, Exec, "/home/u/app/scripts/build.sh"), Allow);
    assert_eq!(verdict(&own, Exec, "/usr/bin/curl"), Deny);
    assert!(own.covered(Write, Path::new("/home/u/app/dist/x.js")));
    assert!(own.covered(Read, Path::new("/home/u/app/node_modules/x/.env")));
    assert!(!own.covered(Read, Path::new("/home/u/app/src/index.ts")));
}

#[test]
fn strict_names_what_may_be_executed() {
    let strict = profile(&policy("version: 1\nextends: strict\n"), &dependency("x"));
    expect(
        &strict,
        Exec,
        Allow,
        "\
        /bin/sh /usr/bin/cat /home/u/app/node_modules/.bin/x",
    );
    expect(
        &strict,
        Exec,
        Log,
        "\
        /usr/bin/gcc /usr/bin/python3",
    );
    expect(
        &strict,
        Exec,
        Deny,
        "\
        /usr/bin/unknown-tool /usr/bin/curl /opt/x /usr/bin/ps",
    );
    expect(
        &strict,
        Read,
        Deny,
        "\
        /home/u/app/package.json /home/u/app /proc/self/environ",
    );
    assert_eq!(strict.limits().wall, Some(Duration::from_secs(600)));
}

#[test]
fn the_manager_keeps_its_tokens_and_executes_node_and_git() {
    let manager = profile(&default_policy(), &Subject::Manager);
    assert_eq!(manager.decide_env(OsStr::new("NPM_TOKEN")).verdict, Allow);
    expect(
        &manager,
        Read,
        Allow,
        "\
        /home/u/.npmrc /anything",
    );
    expect(
        &manager,
        Write,
        Allow,
        "\
        /home/u/app/package.json /home/u/.npm/_cacache/x /home/u/.cache/x",
    );
    expect(
        &manager,
        Write,
        Deny,
        "\
        /home/u/.bashrc",
    );
    expect(
        &manager,
        Exec,
        Allow,
        "\
        /home/u/.nvm/node/v24/bin/node /usr/bin/git /usr/lib/git-core/git-remote-https",
    );
    expect(
        &manager,
        Exec,
        Deny,
        "\
        /bin/sh /usr/bin/curl",
    );
    assert_eq!(manager.decide_host("registry.example.test", 443).decision.verdict, Deny);
    assert_eq!(manager.kernel_grants().read, [Grant::Tree("/".into())]);
    assert!(
        manager.covered(Read, Path::new("/home/u/.npmrc"))
            && !manager.covered(Read, Path::new("/proc/1/environ"))
    );
    assert_eq!(manager.limits().wall, None);
}

#[test]
fn a_user_without_a_home_loses_nothing_but_home() {
    let mut vars = vars();
    vars.home = None;
    let script = default_policy().profile(&dependency("x"), &vars).unwrap();
    assert_eq!(verdict(&script, Read, "/home/u/app/node_modules/x"), Allow);
}
