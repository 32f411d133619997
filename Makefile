# SPDX-License-Identifier: MIT
# make install, make uninstall: the hooks, to where libvirt calls them, and the tool. It honours DESTDIR.
# make dist: each of them as one file that needs no packages, in $(DIST). Python's version there should be that of the hosts.

HOOKS_DIR = /etc/libvirt/hooks
PYTHON = /usr/bin/python3
HOOKS = network qemu
TARGET = $(DESTDIR)$(HOOKS_DIR)
TOOL = $(DESTDIR)/usr/local/sbin/libvirt-vlan
DIST = dist
MAN_PAGE = $(DESTDIR)/usr/local/share/man/man8/libvirt-vlan.8

# A file is ours if it imports our main program.
ours = grep -qs 'from libvirt_hooks\.$(1) import main' "$(2)"

.PHONY: help install uninstall dist

help:
	@echo 'make install    copy the hooks to $(TARGET), and libvirt-vlan to /usr/local/sbin'
	@echo 'make uninstall  take them away again'
	@echo 'make dist       build each as one file with the Python packages inside, in $(DIST)'
	@echo 'sh tests/check  run all tests (as root)'

install:
	install -d -m 755 '$(TARGET)' '$(TARGET)/lib'
	rm -rf '$(TARGET)/lib/libvirt_hooks'
	install -d -m 755 '$(TARGET)/lib/libvirt_hooks'
	install -d -m 755 '$(TARGET)/lib/libvirt_hooks/tool'
	install -m 644 lib/libvirt_hooks/*.py '$(TARGET)/lib/libvirt_hooks'
	install -m 644 lib/libvirt_hooks/tool/*.py '$(TARGET)/lib/libvirt_hooks/tool'
	umask 022 && $(PYTHON) -m compileall -q -d '$(HOOKS_DIR)/lib/libvirt_hooks' '$(TARGET)/lib/libvirt_hooks'
	@$(foreach hook,$(HOOKS),$(call install_hook,$(hook)))
	install -D -m 755 sbin/libvirt-vlan '$(TOOL)'
	install -D -m 644 man/libvirt-vlan.8 '$(MAN_PAGE)'
	@$(PYTHON) -I -c 'import defusedxml, sh, tenacity' 2>/dev/null || \
		echo 'Missing: apt install python3-defusedxml python3-sh python3-tenacity (or dnf install the same)'
	@if systemctl -q is-active virtnetworkd.service virtnetworkd.socket 2>/dev/null; \
	then echo 'Now: systemctl restart virtnetworkd virtqemud'; \
	else echo 'Now: systemctl restart libvirtd'; fi

uninstall:
	@$(foreach hook,$(HOOKS),$(call uninstall_hook,$(hook)))
	rm -f '$(TOOL)' '$(MAN_PAGE)'
	rm -rf '$(TARGET)/lib/libvirt_hooks'
	@rmdir '$(TARGET)/lib' 2>/dev/null || true

# A set's order, which is random, would be in the compiled code.
dist:
	PYTHONHASHSEED=0 $(PYTHON) onefile/build.py '$(DIST)'

# Another's hook of that name stays: libvirt (6.5 or later) runs those in NAME.d after it.
define install_hook
if [ -e '$(TARGET)/$(1)' ] && ! $(call ours,$(1),$(TARGET)/$(1)); then \
	echo '$(TARGET)/$(1) is not ours and stays: installed as $(TARGET)/$(1).d/50-vlan, for libvirt 6.5 or later'; \
	install -d -m 755 '$(TARGET)/$(1).d' && install -m 755 'hooks/$(1)' '$(TARGET)/$(1).d/50-vlan'; \
else \
	echo 'installed $(TARGET)/$(1)'; \
	install -m 755 'hooks/$(1)' '$(TARGET)/$(1)'; \
	rm -f '$(TARGET)/$(1).d/50-vlan'; \
fi || exit;
endef

define uninstall_hook
for file in '$(TARGET)/$(1)' '$(TARGET)/$(1).d/50-vlan'; do \
	if $(call ours,$(1),$$file); then echo "removed $$file"; rm -f "$$file"; fi; \
done; \
rmdir '$(TARGET)/$(1).d' 2>/dev/null || true;
endef
