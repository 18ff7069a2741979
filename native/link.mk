# How the addon is linked and libelf is compiled. Included by the Makefile here, and the Makefile of the parts that are
# shipped with the agent (`make relink-parts`), so that both are the same. Set before: OUT (where the addon goes), OBJ
# (objects), ELFUTILS (sources of libelf), ADDON (the addon's own objects), LIBBPF_A, EXPORTS.
CXX ?= g++
CC ?= gcc
CFLAGS ?= -O2 -g1
COMMON := -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -D_FILE_OFFSET_BITS=64 -D_LARGEFILE64_SOURCE -MMD -MP

# Third-party sources: their own style, their own warnings off. knp is the only code held to -Werror.
LIBELF_FLAGS := -std=gnu11 -w -DHAVE_CONFIG_H -I$(ELFUTILS) -I$(ELFUTILS)/libelf -I$(ELFUTILS)/lib
LIBELF := $(patsubst $(ELFUTILS)/%.c,$(OBJ)/elfutils/%.o,$(wildcard $(ELFUTILS)/libelf/*.c) $(ELFUTILS)/lib/eu-search.c)

# What is built anew when the commands change.
MAKEFILES_HERE := $(MAKEFILE_LIST)

.SILENT:
$(OUT)/knp.node: $(ADDON) $(LIBBPF_A) $(OBJ)/libelf.a $(EXPORTS) $(MAKEFILES_HERE)
	$(CXX) -shared -o $@.tmp $(ADDON) $(LIBBPF_A) $(OBJ)/libelf.a -l:libz.a \
	  -static-libstdc++ -pthread -Wl,--version-script=$(EXPORTS) -Wl,--exclude-libs,ALL \
	  -Wl,--gc-sections -Wl,-z,relro,-z,now -Wl,-z,nodelete $(LDFLAGS)
	mv $@.tmp $@

$(OBJ)/libelf.a: $(LIBELF)
	rm -f $@ && $(AR) rcs $@ $^
$(OBJ)/elfutils/%.o: $(ELFUTILS)/%.c $(MAKEFILES_HERE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(COMMON) $(LIBELF_FLAGS) -c $< -o $@

-include $(LIBELF:.o=.d)
