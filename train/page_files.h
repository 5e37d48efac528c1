/* train/page.css and train/page.js, put into the program by cmake/Embed.cmake. */
#ifndef TRAIN_PAGE_FILES_H
#define TRAIN_PAGE_FILES_H

extern const char page_css[], page_js[];

#endif
