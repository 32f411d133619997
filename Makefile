# SPDX-License-Identifier: MIT
# make help says what the targets do. make install and make uninstall honour DESTDIR. make dist should run with the
# hosts' version of Python.

HOOKS_DIR = /etc/libvirt/hooks
PYTHON = /usr/bin/python3
SHTAB_PYTHON = $(PYTHON)
HOOKS = network qemu lxc
TARGET = $(DESTDIR)$(HOOKS_DIR)
TOOL = $(DESTDIR)/usr/local/sbin/libvirt-vlan
DIST = dist
# of the packages: whoever builds them. This address is nobody's.
MAINTAINER = The libvirt-hooks authors <libvirt-hooks@example.org>
DEB_SOURCES = completion debian docs examples hooks lib man monitoring sbin $(wildcard systemd) \
	CHANGELOG.md CONTRIBUTING.md README.md
RPM_SOURCES = completion debian/hook docs examples hooks lib man monitoring rpm sbin systemd \
	CHANGELOG.md CONTRIBUTING.md LICENSE README.md
LIB = $(TARGET)/lib
UNITS = $(DESTDIR)/usr/local/lib/systemd/system
MAN_PAGE = $(DESTDIR)/usr/local/share/man/man8/libvirt-vlan.8
BASH_COMPLETION = $(DESTDIR)/usr/local/share/bash-completion/completions/libvirt-vlan
ZSH_COMPLETION = $(DESTDIR)/usr/local/share/zsh/site-functions/_libvirt-vlan

# A file is ours if it imports our main program.
ours = grep -qs 'from libvirt_hooks\.$(1) import main' "$(2)"

.PHONY: help install uninstall dist deb rpm collection
.NOTPARALLEL: # dist, deb, rpm and collection write one SHA256SUMS

help:
	@echo 'make install     install the hooks in $(TARGET), and libvirt-vlan in $(dir $(TOOL)) (as root)'
	@echo 'make uninstall   remove what make install has installed (as root)'
	@echo 'make deb         build the Debian package in $(DIST)/; needs debhelper, dh-python and python3-shtab'
	@echo 'make rpm         build the RPM in $(DIST)/; needs rpmbuild (Debian: rpm, Fedora: rpm-build) and python3-shtab'
	@echo 'make dist        build each hook, and libvirt-vlan, as one file that needs no Python packages, in $(DIST)/'
	@echo 'make collection  build the Ansible collection in $(DIST)/; needs ansible-core'
	@echo 'sh tests/check   run all tests (as root)'

install:
	install -d -m 755 '$(TARGET)' '$(LIB)'
	@$(install_lib)
	@$(foreach hook,$(HOOKS),$(call install_hook,$(hook)))
	install -D -m 755 sbin/libvirt-vlan '$(TOOL)'
	install -D -m 644 man/libvirt-vlan.8 '$(MAN_PAGE)'
	install -d -m 755 '$(UNITS)' && install -m 644 systemd/* '$(UNITS)'
	@$(install_completion)
	@$(PYTHON) -I -c 'import defusedxml, sh, tenacity' 2>/dev/null || \
		echo 'Missing: apt install python3-defusedxml python3-sh python3-tenacity (or dnf install the same)'
	@if [ -e '$(DESTDIR)/usr/share/libvirt-hooks/network' ]; then \
		echo 'These hooks are used instead of those of the package libvirt-hooks. To remove it: apt purge libvirt-hooks, or dnf remove libvirt-hooks'; fi
	@$(say_restart)
	@echo 'To undo what others do to the VLANs of running VMs: systemctl enable --now libvirt-vlan-watch'

uninstall:
	@$(foreach hook,$(HOOKS),$(call uninstall_hook,$(hook)))
	rm -f '$(TOOL)' '$(MAN_PAGE)' '$(BASH_COMPLETION)' '$(ZSH_COMPLETION)' \
		$(patsubst systemd/%,'$(UNITS)/%',$(wildcard systemd/*))
	rm -rf '$(LIB)/libvirt_hooks' '$(LIB)/libvirt_hooks-1' '$(LIB)/libvirt_hooks-2'
	@rmdir '$(LIB)' 2>/dev/null || true
	rm -f '$(DESTDIR)/var/lib/prometheus/node-exporter/libvirt-vlan.prom'
	@echo 'Running VMs keep their VLANs. What is in /run/libvirt-hooks is gone after the next boot.'
	@echo 'Saved definitions stay in /var/backups/libvirt. They can hold passwords.'
	@if [ -e '$(DESTDIR)/var/log/libvirt/hooks.log' ]; then echo 'The log stays: $(DESTDIR)/var/log/libvirt/hooks.log'; fi
	@$(say_restart)

# A set's order, which is random, would be in the compiled code.
dist:
	PYTHONHASHSEED=0 $(PYTHON) onefile/build.py '$(DIST)'
	@$(sums)

# Built in a copy, so that nothing of debhelper's stays here. Each file is as old as debian/changelog says, so that two
# builds of one release have the same bytes. -d: there is nothing to compile, and so no need of build-essential.
deb:
	@set -e; build=$$(mktemp -d); trap 'rm -rf "$$build"' EXIT; mkdir -p '$(DIST)' "$$build/source"; \
	tar --exclude __pycache__ -c $(DEB_SOURCES) | tar -x -C "$$build/source"; \
	$(name_maintainer) "$$build/source/debian/control" "$$build/source/debian/changelog"; \
	find "$$build/source" -exec touch -h -d "@$$(dpkg-parsechangelog -S Timestamp)" '{}' +; \
	(cd "$$build/source" && dpkg-buildpackage -d -us -uc -b >"$$build/log" 2>&1) || { cat "$$build/log"; exit 1; }; \
	mv "$$build"/*.deb '$(DIST)'
	@$(sums)

# Built in a copy, too, of files that are as old as the newest entry of the spec's %changelog. --nodeps: on Debian, rpm does
# not know what is installed. Nothing of who builds it where and when is inside, but MAINTAINER.
rpm:
	@set -e; build=$$(mktemp -d); trap 'rm -rf "$$build"' EXIT; mkdir -p '$(DIST)'; spec=rpm/libvirt-hooks.spec; \
	name=libvirt-hooks-$$(sed -n 's/^Version: *//p' $$spec); mkdir "$$build/$$name"; \
	tar --exclude __pycache__ -c $(RPM_SOURCES) | tar -x -C "$$build/$$name"; \
	$(name_maintainer) "$$build/$$name/$$spec"; \
	date=$$(sed -n 's/^[*] \w* \(\w* \w* \w*\) .*/\1/p' $$spec | head -n 1); \
	export HOME="$$build" SOURCE_DATE_EPOCH=$$(date -u -d "$$date 12:00" +%s); \
	find "$$build/$$name" -exec touch -h -d "@$$SOURCE_DATE_EPOCH" '{}' +; \
	tar -C "$$build" -czf "$$build/$$name.tar.gz" "$$name"; \
	rpmbuild -bb --nodeps --define "_topdir $$build" --define "_sourcedir $$build" --define 'packager $(MAINTAINER)' \
		--define '_buildhost libvirt-hooks' --define 'use_source_date_epoch_as_buildtime 1' \
		--define 'clamp_mtime_to_source_date_epoch 1' "$$build/$$name/$$spec" >"$$build/log" 2>&1 || { cat "$$build/log"; exit 1; }; \
	mv "$$build"/RPMS/noarch/*.rpm '$(DIST)'
	@$(sums)

collection:
	$(PYTHON) ansible/build.py '$(DIST)'
	@$(sums)

# Given files, have them name MAINTAINER.
define name_maintainer
$(PYTHON) -c 'import pathlib, re, sys; who, *files = sys.argv[1:]; \
	[path.write_text(re.sub("The libvirt-hooks authors <.*?>", lambda _: who, path.read_text())) \
	for path in map(pathlib.Path, files)]' '$(MAINTAINER)'
endef

define sums
cd '$(DIST)' && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS
endef

define say_restart
if systemctl -q is-active virtnetworkd.service virtnetworkd.socket 2>/dev/null; \
then echo 'Now: systemctl restart virtnetworkd virtqemud (and virtlxcd, if there are containers)'; \
else echo 'Now: systemctl restart libvirtd'; fi
endef

# The tool does without: if the completion cannot be built, build.py says why.
define install_completion
set -e; made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
if $(SHTAB_PYTHON) -IB completion/build.py "$$made"; then \
	install -D -m 644 "$$made/libvirt-vlan" '$(BASH_COMPLETION)'; \
	install -D -m 644 "$$made/_libvirt-vlan" '$(ZSH_COMPLETION)'; \
fi
endef

# libvirt can call a hook at any time. So libvirt_hooks is a link to one of two directories, and is replaced in one step:
# a hook that has started goes on with the directory that it found, which stays until the next install.
define install_lib
set -e; umask 022; new=libvirt_hooks-1; old=libvirt_hooks-2; \
if [ "$$(readlink '$(LIB)/libvirt_hooks')" = "$$new/libvirt_hooks" ]; then old=$$new; new=libvirt_hooks-2; fi; \
rm -rf '$(LIB)/'"$$new"; \
(cd lib && find libvirt_hooks -name '*.py' | xargs -I '{}' install -D -m 644 '{}' '$(LIB)/'"$$new"'/{}'); \
$(PYTHON) -m compileall -q -d '$(HOOKS_DIR)/lib/libvirt_hooks' '$(LIB)/'"$$new"/libvirt_hooks; \
ln -sfnT "$$new"/libvirt_hooks '$(LIB)/libvirt_hooks.new'; \
if [ -d '$(LIB)/libvirt_hooks' ] && [ ! -L '$(LIB)/libvirt_hooks' ]; then \
	rm -rf '$(LIB)/'"$$old"; \
	cd '$(LIB)' && $(PYTHON) -I -c 'import os, sys; [os.rename(*two) for two in (sys.argv[1:3], sys.argv[3:])]' \
		libvirt_hooks "$$old" libvirt_hooks.new libvirt_hooks; \
else \
	mv -f -T '$(LIB)/libvirt_hooks.new' '$(LIB)/libvirt_hooks'; \
fi
endef

# Given a file and where it is to be: never half of it, and nothing but hooks in NAME.d, where libvirt runs all there is.
replace = install -m 755 '$(1)' '$(TARGET)/.libvirt-hooks.new' && mv -f -T '$(TARGET)/.libvirt-hooks.new' '$(2)'

# Another's hook of that name stays: libvirt (6.5 or later) runs those in NAME.d after it.
define install_hook
if [ -e '$(TARGET)/$(1)' ] && ! $(call ours,$(1),$(TARGET)/$(1)); then \
	echo '$(TARGET)/$(1) belongs to another tool and stays: installed as $(TARGET)/$(1).d/50-vlan, for libvirt 6.5 or later'; \
	install -d -m 755 '$(TARGET)/$(1).d' && $(call replace,hooks/$(1),$(TARGET)/$(1).d/50-vlan); \
else \
	echo 'installed $(TARGET)/$(1)'; \
	$(call replace,hooks/$(1),$(TARGET)/$(1)); \
	rm -f '$(TARGET)/$(1).d/50-vlan'; \
fi || exit;
endef

define uninstall_hook
for file in '$(TARGET)/$(1)' '$(TARGET)/$(1).d/50-vlan'; do \
	if $(call ours,$(1),$$file); then echo "removed $$file"; rm -f "$$file"; fi; \
done; \
rmdir '$(TARGET)/$(1).d' 2>/dev/null || true;
endef
