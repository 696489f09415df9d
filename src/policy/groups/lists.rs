//! The lists themselves.

use super::{Group, Members};

/// Every group, in the order in which `policy show --groups` prints them.
pub(in crate::policy) const GROUPS: &[Group] = &[
    Group {
        name: "system",
        doc: "what the operating system ships: programs, libraries, configuration, harmless devices",
        members: Members::Paths(SYSTEM),
    },
    Group {
        name: "system-secrets",
        doc: "files below the system directories that root can read and a script must not",
        members: Members::Paths(SYSTEM_SECRETS),
    },
    Group {
        name: "proc",
        doc: "a script's own processes in /proc and the harmless files beside them",
        members: Members::Paths(PROC),
    },
    Group {
        name: "proc-secrets",
        doc: "parts of /proc that show memory or lead back out of it",
        members: Members::Paths(PROC_SECRETS),
    },
    Group {
        name: "secrets",
        doc: "credentials in the home directory and in /run",
        members: Members::Paths(SECRETS),
    },
    Group {
        name: "project-secrets",
        doc: "credentials that projects keep beside their code",
        members: Members::Paths(PROJECT_SECRETS),
    },
    Group {
        name: "project-controls",
        doc: "files of a project that other tools obey: git, CI, editors, agents, package managers, npmguard",
        members: Members::Paths(PROJECT_CONTROLS),
    },
    Group {
        name: "user-controls",
        doc: "files of the home directory that a later shell, git or login obeys",
        members: Members::Paths(USER_CONTROLS),
    },
    Group { name: "shells", doc: "shells that scripts are written in", members: Members::Programs(SHELLS) },
    Group { name: "coreutils", doc: "small standard programs", members: Members::Programs(COREUTILS) },
    Group {
        name: "compilers",
        doc: "compilers, linkers and build tools",
        members: Members::Programs(COMPILERS),
    },
    Group { name: "git", doc: "git and the programs it starts", members: Members::Programs(GIT) },
    Group {
        name: "interpreters",
        doc: "other languages' interpreters",
        members: Members::Programs(INTERPRETERS),
    },
    Group { name: "archivers", doc: "programs that pack and unpack", members: Members::Programs(ARCHIVERS) },
    Group {
        name: "process-tools",
        doc: "programs that look at or signal processes",
        members: Members::Programs(PROCESS_TOOLS),
    },
    Group {
        name: "network-tools",
        doc: "programs that move data over a network",
        members: Members::Programs(NETWORK_TOOLS),
    },
    Group {
        name: "privilege-tools",
        doc: "programs that change who or where one is",
        members: Members::Programs(PRIVILEGE_TOOLS),
    },
    Group {
        name: "cloud-clis",
        doc: "clients of cloud and hosting providers",
        members: Members::Programs(CLOUD_CLIS),
    },
    Group { name: "ai-clis", doc: "coding agents and model clients", members: Members::Programs(AI_CLIS) },
    Group {
        name: "container-clis",
        doc: "container and cluster clients",
        members: Members::Programs(CONTAINER_CLIS),
    },
    Group {
        name: "schedulers",
        doc: "programs that make something run later",
        members: Members::Programs(SCHEDULERS),
    },
    Group {
        name: "secret-scanners",
        doc: "programs that look for secrets or show them",
        members: Members::Programs(SECRET_SCANNERS),
    },
    Group {
        name: "credentials",
        doc: "environment variables that carry credentials",
        members: Members::Names(CREDENTIALS),
    },
    Group {
        name: "build-variables",
        doc: "environment variables that honest builds need",
        members: Members::Names(BUILD_VARIABLES),
    },
    Group {
        name: "telemetry",
        doc: "hosts that packages report their installs to",
        members: Members::Hosts(TELEMETRY),
    },
    Group { name: "registry", doc: "the registries of this project", members: Members::Hosts(&[]) },
    Group { name: "proxy", doc: "the proxies that the manager is set up to use", members: Members::Hosts(&[]) },
    Group {
        name: "git-hosts",
        doc: "the hosts of git dependencies in the lockfile",
        members: Members::Hosts(&[]),
    },
];

/// Hosts that count installs and uses for the project or fund behind them. Analytics services
/// where anybody may have an account are left out on purpose: a refusal there may be the theft
/// of data, which must stay a violation.
const TELEMETRY: &[&str] = &[
    "opencollective.com", "*.opencollective.com", "scarf.sh", "*.scarf.sh", "checkpoint.prisma.io",
    "telemetry.nextjs.org", "telemetry.vercel.com", "telemetry.astro.build", "telemetry.nuxt.com",
    "telemetry.redwoodjs.com", "analytics.gatsbyjs.com", "analytics.strapi.io",
];

/// The fine trees come first and again inside the coarse ones: a denied file (a
/// global `npmrc`) takes its coarse tree away from the kernel's allow-list, and
/// the fine trees, where nearly every open falls, stay in it.
const SYSTEM: &[&str] = &[
    "/usr/{bin,sbin,lib,lib32,lib64,libx32,libexec,share,include,src,games}/**",
    "/usr/local/{bin,sbin,lib,lib64,libexec,share,include,src}/**", "/usr/**",
    "/{bin,sbin,lib,lib32,lib64,libx32}/**", "/opt/**", "/nix/store/**", "/etc/ssl/certs/**",
    "/etc/{ld.so.cache,ld.so.conf,ld.so.preload,passwd,group,nsswitch.conf,hosts,host.conf,resolv.conf}",
    "/etc/{gai.conf,localtime,timezone,os-release,lsb-release,debian_version,alpine-release,locale.alias}",
    "/etc/{inputrc,protocols,services,mime.types,shells,profile,bash.bashrc,gitconfig}",
    "/etc/{ld.so.conf.d,alternatives,pki/tls/certs,pki/ca-trust,crypto-policies,ca-certificates,fonts}/**",
    "/etc/ssl/openssl.cnf", "/etc/**", "/sys/**", "/dev/",
    "/dev/{null,zero,full,random,urandom,tty,fd,stdin,stdout,stderr}",
    "/run/systemd/resolve/{resolv.conf,stub-resolv.conf}", "/run/resolvconf/**",
    "/run/NetworkManager/resolv.conf", "/mnt/wsl/resolv.conf", "/var/lib/ca-certificates/**",
    "/var/cache/fontconfig/**",
];

const SYSTEM_SECRETS: &[&str] = &[
    "/etc/{shadow,shadow-,gshadow,gshadow-,master.passwd,security/opasswd}", "/etc/sudoers",
    "/etc/sudoers.d/**", "/etc/ssh/ssh_host_{rsa,dsa,ecdsa,ed25519}_key", "/etc/ssl/private/**",
    "/etc/pki/{tls/private,private}/**", "/etc/letsencrypt/**",
    "/etc/{krb5.keytab,wpa_supplicant.conf,ppp/chap-secrets,ppp/pap-secrets}",
    "/etc/{wireguard,openvpn,ipsec.d,kubernetes,rancher,vault.d,secrets,docker,containers,credstore,credstore.encrypted}/**",
    "/etc/NetworkManager/system-connections/**", "/etc/{npmrc,netrc,.netrc,pip.conf,environment}",
    "/usr/{etc,local/etc}/npmrc", "/usr/local/etc/{pip.conf,netrc}",
    "/sys/kernel/{security,debug,tracing}/**", "/sys/firmware/efi/efivars/**",
];

const PROC: &[&str] = &[
    "/proc/", "/proc/{self,thread-self}/**", "/proc/{net,mounts}", "/proc/sys/**",
    "/proc/{cpuinfo,meminfo,stat,loadavg,version,uptime,filesystems,devices,cgroups,diskstats,partitions}",
    "/proc/{swaps,vmstat,zoneinfo,cmdline,modules,interrupts,softirqs,crypto,misc,buddyinfo}",
    "/proc/pressure/**",
];

const PROC_SECRETS: &[&str] = &[
    "/proc/{self,thread-self}/{environ,mem,pagemap,auxv,syscall,stack}",
    "/proc/self/task/*/{environ,mem,pagemap,auxv,syscall,stack}",
];

const SECRETS: &[&str] = &[
   
    "{home}/.{ssh,aws,azure,gcloud,kube,gnupg,oci,terraform.d,docker,password-store,pki,mozilla,thunderbird}/**",
    "{home}/.config/{gcloud,gh,glab-cli,hub,op,sops,rclone,doctl,heroku,netlify,stripe,containers,age}/**",
    "{home}/.config/{google-chrome,chromium,BraveSoftware,microsoft-edge,Code/User/globalStorage}/**",
    "{home}/.config/{configstore,vercel,.wrangler,github-copilot,git/credentials,npm,yarn}/**",
    "{home}/.local/share/{keyrings,kwalletd,com.vercel.cli,gopass}/**",
    "{home}/.{claude,codex,gemini,cursor,aider,continue}/**",
    "{home}/.{claude.json,npmrc,yarnrc,yarnrc.yml,bunfig.toml,netrc,_netrc,git-credentials,pgpass,my.cnf,mylogin.cnf}",
    "{home}/.{pypirc,boto,s3cfg,dockercfg,vault-token,terraformrc,env,envrc,Xauthority,ICEauthority}",
    "{home}/.{bash_history,zsh_history,node_repl_history,python_history,psql_history,mysql_history,lesshst}",
    "{home}/.{cargo/credentials,cargo/credentials.toml,gem/credentials,m2/settings.xml,gradle/gradle.properties}",
    "{home}/.{composer/auth.json,nuget/NuGet/NuGet.Config,fly/config.yml,railway/config.json}",
    "{home}/.{bitcoin,ethereum,electrum,solana,config/solana,config/Exodus}/**", "/run/secrets/**",
    "/var/run/secrets/**", "/run/user/**", "/root/.{ssh,aws,kube,docker,gnupg}/**",
];

const PROJECT_SECRETS: &[&str] = &[
   
    "{project}/**/{.env,.envrc,.npmrc,.yarnrc.yml,.netrc,.git-credentials,.pgpass,.pypirc,.dockercfg,.vault-token}",
    "{project}/**/.env.*", "{project}/**/*.{pem,key,p12,pfx,jks,keystore,kdbx,ppk,asc}",
    "{project}/**/id_{rsa,dsa,ecdsa,ed25519}",
    "{project}/**/{service-account,serviceAccount,credentials,client_secret}*.json",
    "{project}/**/*.{tfstate,tfvars}",
    "{project}/{.aws,.ssh,.kube,.docker,.gnupg,.terraform,.claude,.codex,.cursor}/**",
    "{project}/.git/config",
];

const PROJECT_CONTROLS: &[&str] = &[
    "{project}/.git/{config,config.lock,config.worktree,info/attributes,index}",
    "{project}/.git/{hooks,modules,worktrees,refs,objects,logs}/**",
    "{project}/.git/{HEAD,packed-refs,FETCH_HEAD,ORIG_HEAD}",
    "{project}/.{github,gitlab,circleci,buildkite,woodpecker,forgejo,gitea,azure-pipelines,teamcity}/**",
    "{project}/{.gitlab-ci.yml,.travis.yml,.drone.yml,.woodpecker.yml,azure-pipelines.yml,bitbucket-pipelines.yml,appveyor.yml,Jenkinsfile}",
    "{project}/{.gitmodules,.gitattributes,.gitconfig,.mailmap,.lfsconfig}",
    "{project}/.{vscode,idea,fleet,zed,devcontainer,vim,nvim}/**",
    "{project}/{.vimrc,.nvimrc,.exrc,.editorconfig,.dir-locals.el,.envrc,.direnv,.tool-versions,mise.toml,.mise.toml}",
    "{project}/.{husky,githooks,git-hooks,lefthook}/**",
    "{project}/{lefthook.yml,.lefthook.yml,.pre-commit-config.yaml,.pre-commit-hooks.yaml}",
    "{project}/.{claude,codex,gemini,cursor,aider,continue,windsurf,roo,amazonq,kiro,agents}/**",
    "{project}/{.mcp.json,.cursorrules,.windsurfrules,.clinerules,CLAUDE.md,AGENTS.md,GEMINI.md,.aider.conf.yml}",
    "{project}/{.npmrc,.yarnrc,.yarnrc.yml,.pnpmfile.cjs,.pnpmfile.mjs,pnpm-workspace.yaml,bunfig.toml,.nvmrc,.node-version}",
    "{project}/.yarn/{releases,plugins}/**", "{project}/{npmguard.yaml,npmguard.yml,npmguard.lock,.npmguard}",
    "{project}/.npmguard/**",
    "{project}/{.env,.env.local,.env.development,.env.production,.env.test,.env.staging}",
    "{project}/{Dockerfile,docker-compose.yml,docker-compose.yaml,compose.yml,compose.yaml}",
];

const USER_CONTROLS: &[&str] = &[
   
    "{home}/.{bashrc,bash_profile,bash_login,bash_logout,profile,zshrc,zprofile,zshenv,zlogin,zlogout,inputrc}",
    "{home}/.{gitconfig,vimrc,exrc,tmux.conf,screenrc,xprofile,xinitrc,xsession,pam_environment,wgetrc,curlrc}",
    "{home}/.config/{fish,git,systemd,autostart,environment.d,nvim,direnv}/**",
    "{home}/.local/{bin,share/systemd,share/applications}/**",
    "{home}/{bin,.vim,.vscode,.vscode-server,.oh-my-zsh,.nvm,.volta,.asdf,.cargo/bin}/**",
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox", "env"];

const COREUTILS: &[&str] = &[
    "[", "arch", "awk", "b2sum", "base32", "base64", "basename", "basenc", "cat", "chgrp", "chmod", "chown",
    "cksum", "clear", "cmp", "column", "comm", "cp", "csplit", "cut", "date", "dd", "df", "diff", "diff3",
    "dir", "dircolors", "dirname", "du", "echo", "egrep", "expand", "expr", "factor", "false", "fgrep",
    "file", "find", "flock", "fmt", "fold", "gawk", "getconf", "getent", "getopt", "grep", "groups", "head",
    "hexdump", "hostid", "hostname", "iconv", "id", "install", "join", "ldconfig", "ldd", "link", "ln",
    "locale", "logname", "ls", "lsb_release", "lscpu", "mawk", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp",
    "more", "mv", "nice", "nl", "nproc", "numfmt", "od", "original-awk", "paste", "patch", "pathchk", "pinky",
    "pr", "printenv", "printf", "ptx", "pwd", "readlink", "realpath", "rev", "rm", "rmdir", "sed", "seq",
    "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "shred", "shuf", "sleep", "sort", "split",
    "stat", "stdbuf", "strings", "stty", "sum", "sync", "tac", "tail", "tee", "test", "timeout", "touch",
    "tput", "tr", "true", "truncate", "tsort", "tty", "uname", "unexpand", "uniq", "unlink", "users", "vdir",
    "wc", "whereis", "which", "which.debianutils", "whoami", "xargs", "xxd", "yes",
];

const COMPILERS: &[&str] = &[
    "addr2line", "ar", "as", "autoconf", "autoheader", "automake", "autoreconf", "aclocal", "bison", "c++",
    "c89", "c99", "cc", "ccache", "clang", "clang++", "cmake", "collect2", "cpack", "cpp", "ctest", "dwp",
    "elfedit", "flex", "g++", "gcc", "gcc-ar", "gcc-nm", "gcc-ranlib", "gcov", "gfortran", "gmake", "gold",
    "gprof", "gyp", "ld", "ld.bfd", "ld.gold", "ld.lld", "libtool", "libtoolize", "lld", "llvm-ar", "llvm-nm",
    "llvm-ranlib", "m4", "make", "meson", "nasm", "ninja", "nm", "objcopy", "objdump", "pkg-config",
    "pkgconf", "pg_config", "protoc", "ranlib", "readelf", "rustc", "cargo", "sccache", "size", "strip",
    "swig", "tcc", "x86_64-linux-gnu-g++", "x86_64-linux-gnu-gcc", "aarch64-linux-gnu-g++",
    "aarch64-linux-gnu-gcc", "yasm", "zig",
];

const GIT: &[&str] =&[
    "git", "git-remote-https", "git-remote-http", "git-upload-pack", "git-receive-pack", "git-shell",
];

const INTERPRETERS: &[&str] = &[
    "python", "python2", "python3", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12",
    "python3.13", "python3.14", "pypy", "pypy3", "perl", "ruby", "irb", "php", "lua", "luajit", "tclsh",
    "wish", "expect", "guile", "gdb", "java", "jshell", "deno", "bun", "Rscript", "julia", "osascript",
    "pwsh", "fish", "elixir", "erl", "escript", "racket", "sqlite3",
];

const ARCHIVERS: &[&str] = &[
    "tar", "bsdtar", "gzip", "gunzip", "zcat", "bzip2", "bunzip2", "xz", "unxz", "xzcat", "zstd", "unzstd",
    "lz4", "zip", "unzip", "7z", "7za", "7zr", "cpio", "rar", "unrar", "brotli", "uncompress", "lzma",
];

const PROCESS_TOOLS: &[&str] = &[
    "ps", "pgrep", "pkill", "pidof", "pidwait", "kill", "killall", "top", "htop", "lsof", "fuser", "pstree",
    "pmap", "pwdx", "free", "uptime", "vmstat", "w", "who", "watch", "strace", "ltrace", "nohup", "setsid",
    "daemonize", "disown", "ipcs", "ipcrm", "renice", "ionice", "taskset", "chrt", "prlimit", "script",
];

const NETWORK_TOOLS: &[&str] = &[
    "curl", "wget", "wget2", "aria2c", "axel", "http", "https", "httpie", "xh", "lynx", "links", "elinks",
    "w3m", "nc", "nc.openbsd", "nc.traditional", "ncat", "netcat", "socat", "telnet", "ftp", "lftp", "ncftp",
    "tftp", "ssh", "scp", "sftp", "slogin", "ssh-add", "ssh-agent", "ssh-keygen", "ssh-keyscan",
    "ssh-copy-id", "sshd", "sshfs", "autossh", "mosh", "rsync", "rclone", "rsh", "rlogin", "rcp", "dig",
    "nslookup", "host", "drill", "delv", "kdig", "resolvectl", "nmap", "masscan", "ping", "ping6",
    "traceroute", "tracepath", "mtr", "tcpdump", "tshark", "ngrok", "cloudflared", "tailscale", "wg",
    "wg-quick", "openvpn", "tor", "torsocks", "torify", "proxychains", "proxychains4", "websocat", "ip",
    "ifconfig", "route", "arp", "iptables", "nft", "ss", "netstat", "iw", "nmcli", "mail", "mailx",
    "sendmail", "msmtp", "swaks", "mutt", "croc", "magic-wormhole", "wormhole", "smbclient", "mosquitto_pub",
];

const PRIVILEGE_TOOLS: &[&str] = &[
    "sudo", "sudoedit", "visudo", "su", "doas", "pkexec", "run0", "runuser", "setpriv", "chroot", "unshare",
    "nsenter", "bwrap", "firejail", "fakeroot", "newgrp", "sg", "newuidmap", "newgidmap", "capsh", "setcap",
    "mount", "umount", "fusermount", "fusermount3", "losetup", "cryptsetup", "insmod", "modprobe", "rmmod",
    "passwd", "chpasswd", "chsh", "chfn", "chage", "gpasswd", "useradd", "usermod", "userdel", "adduser",
    "deluser", "groupadd", "groupmod", "groupdel", "addgroup", "apt", "apt-get", "aptitude", "dnf", "yum",
    "zypper", "pacman", "apk", "snap", "flatpak", "brew", "reboot", "shutdown", "poweroff", "halt", "init",
    "telinit", "setenforce", "aa-exec", "keyctl", "dbus-send", "busctl", "gdbus",
];

const CLOUD_CLIS: &[&str] = &[
    "aws", "aws_completer", "aws-vault", "sam", "cdk", "gcloud", "gsutil", "bq", "az", "azd", "oci",
    "ibmcloud", "aliyun", "doctl", "hcloud", "linode-cli", "scw", "flyctl", "fly", "heroku", "netlify",
    "vercel", "wrangler", "railway", "firebase", "supabase", "terraform", "tofu", "terragrunt", "pulumi",
    "ansible", "ansible-playbook", "packer", "vault", "consul", "nomad", "gh", "glab", "hub", "tea", "s3cmd",
    "s5cmd", "mc", "stripe", "twilio", "eksctl", "saml2aws", "databricks", "snowsql",
];

const AI_CLIS: &[&str] = &[
    "claude", "codex", "gemini", "cursor", "cursor-agent", "aider", "copilot", "amp", "opencode", "crush",
    "goose", "q", "qwen", "kiro", "kiro-cli", "llm", "ollama", "sgpt", "mods", "continue", "cn", "plandex",
    "droid", "auggie", "gptme", "interpreter", "windsurf",
];

const CONTAINER_CLIS: &[&str] = &[
    "docker", "dockerd", "docker-compose", "podman", "podman-compose", "buildah", "skopeo", "nerdctl", "ctr",
    "crictl", "runc", "crun", "containerd", "lxc", "lxc-attach", "lxd", "incus", "machinectl",
    "systemd-nspawn", "kubectl", "oc", "helm", "kind", "minikube", "k3s", "k3d", "k9s", "kustomize", "colima",
    "limactl", "vagrant", "virsh", "qemu-system-x86_64",
];

const SCHEDULERS: &[&str] = &[
    "at", "atq", "atrm", "batch", "cron", "crond", "crontab", "anacron", "fcrontab", "systemctl",
    "systemd-run", "loginctl", "launchctl", "service", "update-rc.d", "chkconfig", "rc-update", "rc-service",
    "supervisord", "supervisorctl", "pm2", "start-stop-daemon", "screen", "tmux", "dtach", "abduco",
];

const SECRET_SCANNERS: &[&str] = &[
    "trufflehog", "gitleaks", "ggshield", "detect-secrets", "git-secrets", "noseyparker", "whispers",
    "kingfisher", "titus", "secret-tool", "pass", "gopass", "op", "bw", "lpass", "rbw", "keepassxc-cli",
    "gpg", "gpg2", "gpg-connect-agent", "gpg-agent", "sops", "age", "age-keygen", "kwallet-query", "security",
    "linpeas.sh", "mimipenguin", "laZagne",
];

const CREDENTIALS: &[&str] = &[
    // Shapes.
    "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*_PASS", "*_PWD", "*CREDENTIAL*",
    "*_CREDS", "*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*ACCESSKEY*", "*PRIVATE_KEY*", "*PRIVATEKEY*",
    "*_KEY", "*_KEYS", "*_KEY_ID", "*_KEY_BASE64", "*_PAT", "*_JWT", "*_JWT_*", "*BEARER*", "*COOKIE*",
    "*WEBHOOK*", "*_AUTH", "*_DSN", "*ASKPASS*",
    // Databases and brokers, whose addresses hold passwords.
   
    "{DATABASE,REDIS,MONGO,MONGODB,POSTGRES,POSTGRESQL,MYSQL,AMQP,RABBITMQ,CLICKHOUSE,ELASTICSEARCH,DIRECT}_{URL,URI}",
    "*_{DATABASE,REDIS,MONGO,MONGODB,POSTGRES,POSTGRESQL,MYSQL,DB,AMQP}_{URL,URI}", "DB_{URL,URI}",
    "*CONNECTION_STRING*", "CLOUDINARY_URL", "PGPASSFILE", "PGSERVICEFILE",
    // npm and the other managers, in every spelling.
    "npm_config__*", "npm_config_//*", "npm_config_*_auth*", "npm_config_*:_*",
    "npm_config_{username,email,otp,key,cert,keyfile,certfile}",
    "npm_config_{proxy,https_proxy,https-proxy,http_proxy,http-proxy}", "NPM_AUTH*",
    "NPM_{EMAIL,USER,USERNAME,OTP}", "YARN_NPM_AUTH*", "COMPOSER_AUTH", "BUNDLE_*__*",
    "PIP_{INDEX_URL,EXTRA_INDEX_URL}", "UV_{INDEX,DEFAULT_INDEX,INDEX_URL,EXTRA_INDEX_URL,INDEX_*_USERNAME}",
    "POETRY_{HTTP_BASIC,PYPI}_*", "{TWINE,PYPI}_*", "CARGO_REGISTR{Y,IES}_*", "NUGET_*",
    "{ARTIFACTORY,JFROG,NEXUS}_*",
    // Proxies, whose addresses hold passwords.
    "{HTTP,HTTPS,ALL,FTP,SOCKS,RSYNC}_PROXY", "GLOBAL_AGENT_*_PROXY",
    // Clouds.
    "AWS_*", "AZURE_*", "GOOGLE_*", "GCP_*", "GCLOUD_*", "CLOUDSDK_*", "ARM_CLIENT_*", "MSI_*", "IDENTITY_*",
    "OCI_*", "ALIBABA_*", "ALICLOUD_*", "DIGITALOCEAN_*", "DO_API_*", "HCLOUD_*", "LINODE_*", "SCW_*",
    "CLOUDFLARE_*", "CF_API_*", "HEROKU_*", "TF_VAR_*", "PULUMI_*", "KUBECONFIG", "DOCKER_*",
    "CONTAINER_HOST", "REGISTRY_AUTH*",
    // Sockets and agents that sign or unlock.
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS*", "GPG_*", "GNUPGHOME", "DBUS_*", "XAUTHORITY",
    "ICEAUTHORITY", "KRB5*", "GNOME_KEYRING_*",
    // Code hosts and CI.
    "GH_*", "GITHUB_*AUTH*", "GITLAB_*AUTH*", "ACTIONS_*", "CI_REPOSITORY_URL", "CI_JOB_JWT*", "CI_DEPLOY_*",
    "CI_REGISTRY_{USER,AUTH}*", "BUILDKITE_AGENT_*", "GIT_CONFIG_{COUNT,PARAMETERS,KEY_*,VALUE_*}",
    "GIT_{HTTP_EXTRAHEADER,SSH_COMMAND,SSH}",
    // Secret managers.
    "VAULT_*", "OP_*", "BW_*", "DOPPLER_*", "INFISICAL_*", "SOPS_*", "AKEYLESS_*", "LPASS_*", "KEEPASS*",
    "CONJUR_*",
    // Services.
    "STRIPE_*", "TWILIO_*", "SENDGRID_*", "MAILGUN_*", "SLACK_*", "DISCORD_*", "TELEGRAM_*", "OKTA_*",
    "AUTH0_*", "SUPABASE_*", "FIREBASE_*", "ALGOLIA_*", "SNYK_*", "SONAR_*", "CODECOV_*", "COVERALLS_*",
    "JIRA_*", "SHOPIFY_*", "PAYPAL_*",
    // Model providers and agents.
    "OPENAI_*", "ANTHROPIC_*", "CLAUDE_*", "GEMINI_*", "HF_*", "HUGGING*", "MISTRAL_*", "COHERE_*", "GROQ_*",
    "OPENROUTER_*", "REPLICATE_*", "CURSOR_*", "COPILOT_*", "DEEPSEEK_*", "XAI_*", "PERPLEXITY_*",
    // Wallets.
    "*MNEMONIC*", "*SEED_PHRASE*", "*WALLET*",
];

const BUILD_VARIABLES: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "USERNAME", "SHELL", "TERM", "TERM_PROGRAM", "COLORTERM", "COLUMNS",
    "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR*", "TMPDIR", "TMP", "TEMP", "LANG", "LANGUAGE", "LC_*",
    "TZ", "PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "EDITOR", "CI", "CONTINUOUS_INTEGRATION",
    "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "BUILDKITE", "JENKINS_URL", "DEBIAN_FRONTEND",
    "NODE", "NODE_ENV", "NODE_PATH", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_GYP_FORCE_PYTHON",
    "NODE_DISABLE_COLORS", "INIT_CWD", "COLOR", "npm_command", "npm_execpath", "npm_node_execpath",
    "npm_package_*", "npm_lifecycle_*", "npm_old_version", "npm_new_version",
    "npm_config_{arch,build_from_source,cache,cafile,devdir,disturl,dist_url,fallback_to_build,foreground_scripts,global,globalconfig}",
    "npm_config_{global_prefix,ignore_scripts,include,init_module,jobs,libc,local_prefix,loglevel,nodedir,node_gyp,node_version,noproxy}",
    "npm_config_{offline,omit,platform,prefix,production,python,registry,runtime,strict_ssl,target,target_arch,target_platform,user_agent,userconfig}",
    "CC", "CXX", "CPP", "LD", "AR", "AS", "NM", "RANLIB", "STRIP", "LINK", "CFLAGS", "CXXFLAGS", "CPPFLAGS",
    "LDFLAGS", "LDLIBS", "ARFLAGS", "MAKE*", "MFLAGS", "V", "JOBS", "GYP_*", "PYTHON", "PYTHONIOENCODING",
    "PYTHONUNBUFFERED", "PKG_CONFIG*", "CMAKE_*", "NINJA_STATUS", "CCACHE_*", "SOURCE_DATE_EPOCH",
    "ZERO_AR_DATE", "OPENSSL_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR", "RES_OPTIONS", "NO_PROXY",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "npm_config_yes", "npm_config_fund",
    "npm_config_audit",
];
