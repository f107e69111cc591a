// mq_notify by a thread, as the C library has it done: once for each time that it is asked for.
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t told;
static mqd_t queue;
static int times;

static void on_message(union sigval value) {
    char text[8] = {0};
    mq_receive(queue, text, sizeof text, 0);
    printf("told %d of %s as another %d\n", value.sival_int, text, ++times);
    sem_post(&told);
}

static int ask(int value) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_message, .sigev_value.sival_int = value};
    return mq_notify(queue, &event) ? errno : 0;
}

int main(void) {
    struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 8};
    char name[64];
    sprintf(name, "/quire-notify-%d", getpid());
    queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    sem_init(&told, 0, 0);
    printf("ask %d", ask(1));
    printf(" again %d\n", ask(2));
    fflush(stdout);
    mq_send(queue, "first", 6, 0);
    sem_wait(&told);
    mq_send(queue, "nobody", 7, 0);
    char text[8];
    printf("received %zd\n", mq_receive(queue, text, sizeof text, 0));
    printf("ask %d\n", ask(3));
    fflush(stdout);
    if (!fork()) {
        mq_send(queue, "child", 6, 0);
        _exit(0);
    }
    wait(0);
    sem_wait(&told);
    printf("ask %d", ask(4));
    printf(" no longer %d", mq_notify(queue, 0));
    printf(" ask %d\n", ask(5));
    fflush(stdout);
    mq_send(queue, "last", 5, 0);
    sem_wait(&told);
    mq_unlink(name);
    return 0;
}
